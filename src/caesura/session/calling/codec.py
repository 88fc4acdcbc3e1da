"""The seam between calling sessions and a model's tokens."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from caesura.cml import FrameRules, Interrupt, KnownTools, Mode, Monitor, State


class Codec(Protocol):
    """What a calling session must know of its model. May be used from several threads."""

    def interrupts(self, interrupts: Sequence[Interrupt]) -> list[int]:
        """Tokens of interrupts, in this order; whatever is data in them forges nothing."""
        ...

    def monitor(
        self,
        tools: KnownTools | None,
        used_ids: Iterable[str],
        state: State | None = None,
        before: Sequence[int] = (),
    ) -> Monitor:
        """A monitor for a session.

        Args:
            tools: what its calls may say; None accepts any.
            used_ids: ids of its calls so far.
            state: where the stream is, text or reasoning; None at the beginning of a turn.
            before: what stands there; half a character or half a quoted marker at its end may
                become whole.
        """
        ...

    def frame_rules(self, mode: Mode) -> FrameRules:
        """What the engine has to know to watch the session's frames."""
        ...
