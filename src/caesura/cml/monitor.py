"""Monitors report what a session's model writes as events, while it writes.

There are two on one state machine: `TokenMonitor` for models whose markers are tokens, and
`TextMonitor` for models that spell them. A stream gives the same events however it is cut, except
that its text may be reported in other pieces. Time is linear in the length of the stream, and
memory is bounded by the limits.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from caesura.cml.escaping import open_marker
from caesura.cml.grammar import FIRST_OF_FRAME, State
from caesura.cml.machine import Event, FrameMachine, MonitorSettings
from caesura.cml.markers import Symbol
from caesura.cml.scanner import Scanner, scanner_for
from caesura.errors import ConfigurationError


class Monitor(ABC):
    """Base of both monitors.

    Args:
        settings: what is known about the model and the session.
        used_ids: ids of the calls so far, in a session that goes on from a checkpoint.
    """

    def __init__(self, settings: MonitorSettings, used_ids: Iterable[str] = ()) -> None:
        self._machine = FrameMachine(settings, used_ids)
        self._vocabulary = settings.vocabulary

    @property
    def state(self) -> State:
        """Where in the grammar the stream is."""
        return self._machine.state

    @property
    def in_critical_section(self) -> bool:
        """Whether nothing may be injected: from the start of a call or a trap to its `[END]`."""
        return self._machine.in_frame

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

    @abstractmethod
    def go_on_behind(self, text: str) -> None:
        """Go on where another monitor has read this text, with what it held back at the end."""

    @abstractmethod
    def _flush(self) -> list[Event]:
        """Take everything that was held back as text."""


class TextMonitor(Monitor):
    """Finds markers by their spelling, whatever tokens they were made of.

    Holds back text only while it may be part of a marker, quoted or not.
    """

    def __init__(self, settings: MonitorSettings, used_ids: Iterable[str] = ()) -> None:
        super().__init__(settings, used_ids)
        self._held = ""

    @property
    def in_critical_section(self) -> bool:
        """See `Monitor`. A marker that is half written may begin a frame."""
        if not self._held:
            return super().in_critical_section
        return super().in_critical_section or not FIRST_OF_FRAME.isdisjoint(
            self._scanner.completions(self._held)
        )

    def feed(self, text: str) -> list[Event]:
        """Take text that the model wrote."""
        text = self._held + text
        events: list[Event] = []
        position = 0
        while found := self._scanner.find(text, position):
            events += self._machine.text(text[position : found.start])
            events += self._machine.symbol(found.symbol)
            position = found.end
        certain_end = self._scanner.certain_end(text, position)
        self._held = text[certain_end:]
        events += self._machine.text(text[position:certain_end])
        return events

    def go_on_behind(self, text: str) -> None:
        """See `Monitor.go_on_behind`."""
        certain_end = self._scanner.certain_end(text, 0)
        open_quote = open_marker(text[:certain_end], self._vocabulary)
        self.feed(open_quote + text[certain_end:])  # its events are known already

    @property
    def _scanner(self) -> Scanner:
        return scanner_for(self._vocabulary, self._machine.listens_for)

    def _flush(self) -> list[Event]:
        held, self._held = self._held, ""
        return self._machine.text(held)


class IncrementalDecoder(Protocol):
    """The text of tokens that arrive in pieces."""

    def __call__(self, token_ids: Sequence[int], final: bool) -> str:
        """The text that is certain after these tokens. If `final`, all of it, and a new start."""
        ...


class TokenMonitor(Monitor):
    """Finds markers by their tokens. Text that spells a marker is text.

    Args:
        settings: what is known about the model and the session.
        token_ids: the tokens of all markers, and of the reasoning tags if the model has any.
        decode: the text of all other tokens; is never given one of `token_ids`.
        used_ids: ids of the calls so far, in a session that goes on from a checkpoint.

    Raises:
        ConfigurationError: a marker has no token, or the token of another one.
    """

    def __init__(
        self,
        settings: MonitorSettings,
        token_ids: Mapping[Symbol, int],
        decode: IncrementalDecoder,
        used_ids: Iterable[str] = (),
    ) -> None:
        super().__init__(settings, used_ids)
        if missing := settings.vocabulary.spellings.keys() - token_ids.keys():
            names = ", ".join(sorted(settings.vocabulary.spellings[symbol] for symbol in missing))
            raise ConfigurationError(f"the model has no tokens for {names}: use a TextMonitor")
        self._symbols = {token_id: symbol for symbol, token_id in token_ids.items()}
        if len(self._symbols) < len(token_ids):
            raise ConfigurationError("two symbols have the same token")
        self._decode = decode

    def feed(self, token_ids: Sequence[int]) -> list[Event]:
        """Take tokens that the model wrote, without its end-of-sequence token."""
        events: list[Event] = []
        start = 0
        for position, token_id in enumerate(token_ids):
            symbol = self._symbols.get(token_id)
            if symbol is None:
                continue
            text = self._decode(token_ids[start:position], final=True)
            start = position + 1
            if symbol in self._machine.listens_for:
                events += [*self._machine.text(text), *self._machine.symbol(symbol)]
            else:
                events += self._machine.text(text + self._vocabulary.spellings[symbol])
        events += self._machine.text(self._decode(token_ids[start:], final=False))
        return events

    def go_on_behind(self, text: str) -> None:
        """See `Monitor.go_on_behind`."""
        self._machine.text(open_marker(text, self._vocabulary))

    def _flush(self) -> list[Event]:
        return self._machine.text(self._decode((), final=True))
