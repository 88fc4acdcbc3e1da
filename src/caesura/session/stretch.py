"""What a session's model writes between two things that are written down."""

from pydantic import JsonValue

from caesura.cml import Channel
from caesura.session.dialogue import OutputReader, WrittenCall
from caesura.session.events import EventLog, Report
from caesura.session.protocol import Delta, StopReason
from caesura.session.records import EventType


class Stretch:
    """Text from one call, interrupt, pause or end to the next; it may be empty.

    Args:
        number: among the session's, from 1; events have it as their turn.
        events: where its pieces are reported.

    Attributes:
        number: see there.
        cached_tokens: of the context, as the engine reports them.
        is_over: its output is reported; what follows belongs to the next.
    """

    def __init__(self, number: int, events: EventLog) -> None:
        self.number = number
        self.cached_tokens: int | None = None
        self.is_over = False
        self._events = events
        self._texts = {Channel.ANSWER: "", Channel.REASONING: ""}

    def add(self, text: str, channel: Channel) -> None:
        """Take a piece, and report it."""
        self._texts[channel] += text
        kind = EventType.TEXT if channel is Channel.ANSWER else EventType.REASONING
        self._events.piece(kind, {"turn": self.number, "text": text})

    def finish(self, stop: StopReason, output_tokens: int, *, continues: bool) -> Report:
        """Its output, to be reported.

        Args:
            stop: what ended it.
            output_tokens: generated in it.
            continues: the answer goes on in the next.
        """
        self.is_over = True
        self._events.output_complete()
        data: dict[str, JsonValue] = {
            "turn": self.number,
            "text": self._texts[Channel.ANSWER],
            "reasoning": self._texts[Channel.REASONING],
            "stop": stop,
            "continues": continues,
            "output_tokens": output_tokens,
            "cached_tokens": self.cached_tokens,
        }
        return EventType.OUTPUT, data


class Turn(Stretch):
    """One generation in the model's own format, until it stops or is interrupted.

    Args:
        number, events: see `Stretch`.
        reader: reads its tokens.
    """

    def __init__(self, number: int, events: EventLog, reader: OutputReader) -> None:
        super().__init__(number, events)
        self._reader = reader
        self._output_tokens = 0

    @property
    def inside_call(self) -> bool:
        """Whether a tool call has begun: nothing may be injected now."""
        return self._reader.inside_call

    def take(self, delta: Delta) -> None:
        """Take what was generated, and report it."""
        self._output_tokens += len(delta.token_ids)
        if delta.cached_tokens is not None:
            self.cached_tokens = delta.cached_tokens
        part = self._reader.feed(delta.token_ids)
        for channel, text in ((Channel.REASONING, part.reasoning), (Channel.ANSWER, part.text)):
            if text:
                self.add(text, channel)

    def end(self, stop: StopReason) -> tuple[tuple[WrittenCall, ...], Report]:
        """The calls that it made, and what is reported of it."""
        output = self._reader.finish()
        self._texts = {Channel.ANSWER: output.text, Channel.REASONING: output.reasoning}
        return output.calls, self.finish(stop, self._output_tokens, continues=False)
