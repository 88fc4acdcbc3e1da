"""The seam between calling sessions and a model's tokens."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from caesura.cml import (
    Event,
    FrameRules,
    IncrementalDecoder,
    Interrupt,
    KnownTools,
    Mode,
    State,
    TextMonitor,
    TextRules,
)


class StreamMonitor(Protocol):
    """A `caesura.cml` monitor on tokens, whatever its model's markers are made of."""

    @property
    def state(self) -> State:
        """Where in the grammar the stream is."""
        ...

    @property
    def in_critical_section(self) -> bool:
        """Whether a frame is open, or its first marker under way."""
        ...

    def feed(self, token_ids: Sequence[int]) -> list[Event]:
        """Take tokens that the model wrote."""
        ...

    def injected(self) -> list[Event]:
        """Interrupts were injected here."""
        ...

    def end_of_stream(self) -> list[Event]:
        """The model's turn ended."""
        ...

    def begin_turn(self) -> None:
        """The model's next turn begins, after another prompt."""
        ...


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
    ) -> StreamMonitor:
        """A monitor for a session.

        Args:
            tools: what its calls may say; None accepts any.
            used_ids: ids of its calls so far.
            state: where the stream is, text or reasoning; None at the beginning of a turn.
            before: what stands there: half a marker or a character at its end may become whole.
        """
        ...

    def frame_rules(self, mode: Mode) -> FrameRules | TextRules:
        """What the engine has to know to watch the session's frames."""
        ...


class DecodedMonitor:
    """`StreamMonitor` for models that spell their markers.

    Args:
        monitor: reads the text.
        decode: text of the session's tokens.
    """

    def __init__(self, monitor: TextMonitor, decode: IncrementalDecoder) -> None:
        self._monitor = monitor
        self._decode = decode

    @property
    def state(self) -> State:
        """See `StreamMonitor.state`."""
        return self._monitor.state

    @property
    def in_critical_section(self) -> bool:
        """See `StreamMonitor.in_critical_section`."""
        return self._monitor.in_critical_section

    def feed(self, token_ids: Sequence[int]) -> list[Event]:
        """See `StreamMonitor.feed`."""
        return self._monitor.feed(self._decode(token_ids, final=False))

    def injected(self) -> list[Event]:
        """See `StreamMonitor.injected`."""
        return [*self._flush(), *self._monitor.injected()]

    def end_of_stream(self) -> list[Event]:
        """See `StreamMonitor.end_of_stream`."""
        return [*self._flush(), *self._monitor.end_of_stream()]

    def begin_turn(self) -> None:
        """See `StreamMonitor.begin_turn`."""
        self._monitor.begin_turn()

    def _flush(self) -> list[Event]:
        return self._monitor.feed(self._decode((), final=True))
