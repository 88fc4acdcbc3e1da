"""What one turn of a session generates."""

from pydantic import JsonValue

from caesura.session.dialogue import OutputReader, WrittenCall
from caesura.session.events import EventLog, Report
from caesura.session.protocol import Delta, StopReason
from caesura.session.records import EventType


class Turn:
    """One generation, from its first token until it stops or is interrupted.

    Args:
        number: among the session's turns, from 1.
        reader: reads its tokens.
        events: where its pieces are reported.
    """

    def __init__(self, number: int, reader: OutputReader, events: EventLog) -> None:
        self.number = number
        self._reader = reader
        self._events = events
        self._output_tokens = 0
        self._cached_tokens: int | None = None

    @property
    def inside_call(self) -> bool:
        """Whether a tool call has begun: nothing may be injected now."""
        return self._reader.inside_call

    def take(self, delta: Delta) -> None:
        """Take what was generated, and report it."""
        self._output_tokens += len(delta.token_ids)
        if delta.cached_tokens is not None:
            self._cached_tokens = delta.cached_tokens
        part = self._reader.feed(delta.token_ids)
        for kind, text in ((EventType.REASONING, part.reasoning), (EventType.TEXT, part.text)):
            if text:
                self._events.piece(kind, {"turn": self.number, "text": text})

    def finish(self, stop: StopReason) -> tuple[tuple[WrittenCall, ...], Report]:
        """The calls that it made, and what is reported of it."""
        output = self._reader.finish()
        self._events.output_complete()
        data: dict[str, JsonValue] = {
            "turn": self.number,
            "text": output.text,
            "reasoning": output.reasoning,
            "stop": stop,
            "continues": False,
            "output_tokens": self._output_tokens,
            "cached_tokens": self._cached_tokens,
        }
        return output.calls, (EventType.OUTPUT, data)
