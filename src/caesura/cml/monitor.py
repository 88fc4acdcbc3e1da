"""Reports what a session's model writes as events, while it writes.

A stream gives the same events however it is cut, except that its text may be reported in other
pieces. Time is linear in the length of the stream, and memory is bounded by the limits.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from caesura.cml.escaping import open_marker
from caesura.cml.grammar import State
from caesura.cml.machine import Event, FrameMachine, MonitorSettings
from caesura.cml.markers import Marker, Symbol
from caesura.errors import ConfigurationError


class IncrementalDecoder(Protocol):
    """The text of tokens that arrive in pieces."""

    def __call__(self, token_ids: Sequence[int], final: bool) -> str:
        """The text that is certain after these tokens. If `final`, all of it, and a new start."""
        ...


class Monitor:
    """Finds markers by their tokens. Text that spells a marker is text.

    Args:
        settings: what is known about the model and the session.
        token_ids: the tokens of all markers, and of the reasoning tags if the model has any.
        decode: the text of all other tokens; is never given one of `token_ids`.
        used_ids: ids of the calls so far, in a session that goes on from a checkpoint.

    Raises:
        ConfigurationError: a marker has no token, or the token of another one, or turns begin in
            a reasoning block that no token ends.
    """

    def __init__(
        self,
        settings: MonitorSettings,
        token_ids: Mapping[Symbol, int],
        decode: IncrementalDecoder,
        used_ids: Iterable[str] = (),
    ) -> None:
        if missing := [marker.value for marker in Marker if marker not in token_ids]:
            raise ConfigurationError(f"the model has no tokens for {', '.join(missing)}")
        self._symbols = {token_id: symbol for symbol, token_id in token_ids.items()}
        if len(self._symbols) < len(token_ids):
            raise ConfigurationError("two symbols have the same token")
        self._machine = FrameMachine(settings, tuple(token_ids), used_ids)
        self._decode = decode

    @property
    def state(self) -> State:
        """Where in the grammar the stream is."""
        return self._machine.state

    @property
    def in_critical_section(self) -> bool:
        """Whether nothing may be injected: from the start of a call or a trap to its `[END]`."""
        return self._machine.in_frame

    def feed(self, token_ids: Sequence[int]) -> list[Event]:
        """Take tokens that the model wrote, without its end-of-sequence token."""
        events: list[Event] = []
        start = 0
        for position, token_id in enumerate(token_ids):
            symbol = self._symbols.get(token_id)
            if symbol is None:
                continue
            events += self._machine.text(self._decode(token_ids[start:position], final=True))
            events += self._machine.symbol(symbol)
            start = position + 1
        events += self._machine.text(self._decode(token_ids[start:], final=False))
        return events

    def go_on_behind(self, text: str) -> None:
        """Go on where another monitor has read this text, which may end in a quoted marker."""
        self._machine.text(open_marker(text, self._machine.symbols))

    def begin_turn(self) -> None:
        """Begin the model's next turn, after `end_of_stream` and another prompt."""
        self._machine.begin_turn()

    def injected(self) -> list[Event]:
        """Interrupts were injected here: report the text that was still held back.

        In a critical section this breaks off the open frame, which is reported as a mistake.
        """
        return [*self._flush(), *self._machine.injected()]

    def end_of_stream(self) -> list[Event]:
        """The model's turn ended, by its end-of-sequence token or at a limit."""
        return [*self._flush(), *self._machine.end_of_stream()]

    def _flush(self) -> list[Event]:
        return self._machine.text(self._decode((), final=True))
