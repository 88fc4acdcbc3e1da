"""What a calling session spent its time with, as plain records."""

from dataclasses import dataclass, field
from enum import StrEnum

from caesura.cml import Channel, ProtocolError
from caesura.cml.frames import JsonObject
from caesura.session.calling.happenings import (
    CallingEvent,
    CallIssued,
    Ended,
    Ending,
    FirstToken,
    Injected,
    Mistake,
    Paused,
    SentOff,
    TextWritten,
    Trapped,
)


class SpanKind(StrEnum):
    """What a session does for a while."""

    GENERATING = "generating"
    PAUSED = "paused"


@dataclass(slots=True)
class Span:
    """A stretch of time; `ended_at` is None while it lasts."""

    kind: SpanKind
    began_at: float
    ended_at: float | None = None


@dataclass(slots=True)
class CallSpan:
    """One call, from its first token to its result in the context. Times are seconds.

    Attributes:
        id: None for a call whose result nobody waits for.
        name: the tool.
        arguments: what it was called with.
        opened_at: its `[CALL]` was there.
        issued_at: its `[END]` was there.
        tokens: of its frame.
        started_at, finished_at: its execution.
        failed: its result is an error.
        injected_at: its result had its place in the context.
    """

    id: str | None
    name: str
    arguments: JsonObject
    opened_at: float
    issued_at: float
    tokens: int
    started_at: float | None = None
    finished_at: float | None = None
    failed: bool = False
    injected_at: float | None = None

    @property
    def generation_seconds(self) -> float:
        """From its `[CALL]` to its `[END]`."""
        return self.issued_at - self.opened_at

    @property
    def execution_seconds(self) -> float | None:
        """From its `[END]` to its result; None while it runs."""
        return None if self.finished_at is None else self.finished_at - self.issued_at


@dataclass(slots=True)
class Timeline:
    """One session from the moment that it was begun.

    Attributes:
        began_at, ended_at: from the prompt to the end of the model's turn.
        first_token_at: the first token of all.
        ending, message: how it ended.
        text: the answer; reasoning is not part of it.
        calls: in order of issue.
        spans: without gaps.
        injections: in order.
        mistakes: what the model did wrong.
        traps: how often it waited.
        generated_tokens: what the model wrote.
    """

    began_at: float
    ended_at: float | None = None
    first_token_at: float | None = None
    ending: Ending | None = None
    message: str | None = None
    text: str = ""
    calls: list[CallSpan] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    injections: list[Injected] = field(default_factory=list)
    mistakes: list[ProtocolError] = field(default_factory=list)
    traps: int = 0
    generated_tokens: int = 0

    def __post_init__(self) -> None:
        self.spans.append(Span(SpanKind.GENERATING, self.began_at))

    @property
    def seconds(self) -> float | None:
        """From the prompt to the end; None while it lasts."""
        return None if self.ended_at is None else self.ended_at - self.began_at

    def note(self, event: CallingEvent) -> None:
        """Take the next event."""
        match event:
            case FirstToken():
                if self.first_token_at is None:
                    self.first_token_at = event.at
            case TextWritten(text=text, channel=Channel.ANSWER):
                self.text += text
            case CallIssued(call=call):
                span = _issued(call.id, call.name, call.arguments, event)
                self.calls.append(span)
            case SentOff(call=call):
                self.calls.append(_issued(None, call.name, call.arguments, event))
            case Trapped():
                self.traps += 1
            case Paused():
                self._change(SpanKind.PAUSED, event.at)
            case Injected():
                self._injected(event)
            case Mistake(error=error):
                self.mistakes.append(error)
            case Ended():
                self.ended_at = self.spans[-1].ended_at = event.at
                self.ending, self.message = event.ending, event.message
            case _:
                pass

    def _injected(self, event: Injected) -> None:
        self.injections.append(event)
        if self.spans[-1].kind is SpanKind.PAUSED:
            self._change(SpanKind.GENERATING, event.at)
        ids = {arrival.interrupt.id for arrival in event.arrivals}
        for call in self.calls:
            if call.id in ids and call.injected_at is None:
                call.injected_at = event.at

    def _change(self, kind: SpanKind, at: float) -> None:
        self.spans[-1].ended_at = at
        self.spans.append(Span(kind, at))


def _issued(
    call_id: str | None, name: str, arguments: JsonObject, event: CallIssued | SentOff
) -> CallSpan:
    return CallSpan(call_id, name, arguments, event.opened_at, event.at, event.tokens)
