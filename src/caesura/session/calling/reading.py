"""What a session's model writes, as events."""

from collections import deque
from collections.abc import Sequence

from caesura.cml import (
    Call,
    EndOfStream,
    Event,
    FireAndForget,
    Point,
    ProtocolError,
    Rules,
    Text,
    Trap,
    Violation,
)
from caesura.session.calling.checkpoint import Checkpoint
from caesura.session.calling.codec import StreamMonitor
from caesura.session.calling.events import (
    Arrival,
    CallingEvent,
    CallIssued,
    FirstToken,
    Injected,
    Mistake,
    SentOff,
    TextWritten,
    Trapped,
)
from caesura.session.calling.inbox import Batch, Inbox
from caesura.session.calling.pending import PendingCalls
from caesura.session.protocol import Delta, StopReason


class Reading:
    """Follows a transcript token by token. Times are seconds of the session's clock.

    Args:
        monitor: reads the tokens.
        rules: judges what is forgiven.
        pending: gets the calls.
        inbox: gets what the model is told of its mistakes.
        start: where the transcript begins.

    Attributes:
        monitor: reads the tokens.
        point: what the stream has come to.
        position: how many tokens the transcript has.
        settled_position: how many it had when no frame was open last.
        used_ids: of all calls, also of those that were refused.
        violation: why the session is over, if it is.
        events: what is still to be told.
    """

    def __init__(
        self,
        monitor: StreamMonitor,
        rules: Rules,
        pending: PendingCalls,
        inbox: Inbox,
        start: Checkpoint,
    ) -> None:
        self.monitor = monitor
        self.point = start.point
        self.position = self.settled_position = len(start.token_ids)
        self.used_ids = {*start.used_ids, *(call.id for call in start.pending)}
        self.violation: Violation | None = None
        self.events: deque[CallingEvent] = deque()
        self._rules = rules
        self._pending = pending
        self._inbox = inbox
        self._opened_at = 0.0
        self._opened_position = 0
        self._awaits_first_token = True

    def take(self, delta: Delta, now: float) -> bool:
        """Take what was generated; whether interrupts took their place behind it."""
        if delta.token_ids and self._awaits_first_token:
            self._awaits_first_token = False
            self.events.append(FirstToken(self.position, now, delta.cached_tokens))
        for token_id in delta.token_ids:
            was_open = self.monitor.in_critical_section
            events = self.monitor.feed((token_id,))
            self.position += 1
            self._note(events, now)
            if not self.monitor.in_critical_section:
                self.settled_position = self.position
            elif events or not was_open:
                self._opened_at, self._opened_position = now, self.position - 1
        if delta.stop in (StopReason.STOP, StopReason.LENGTH):
            self.end_turn(now)
        elif delta.stop is StopReason.FRAME:
            self._end_frame(now)
        if delta.stop is None or not self._inbox.is_sent:
            return False
        self.place(self._inbox.placed(), now)
        return True

    def end_turn(self, now: float) -> None:
        """The model's turn is over here; nothing if it was already."""
        if self.point is not Point.ENDED:
            self._note(self.monitor.end_of_stream(), now)

    def _end_frame(self, now: float) -> None:
        """The engine ended the turn here; the last token may have text behind the frame.

        The beginning of a marker that is in there comes to nothing.
        """
        self._note(self.monitor.injected(), now)
        if self.point is Point.CALLED:
            self.point = Point.WRITING  # no more calls belong to these

    def place(self, batch: Batch, now: float) -> None:
        """Interrupts are in the transcript from here on."""
        self._note(self.monitor.injected(), now)
        self.events.append(Injected(self.position, now, batch.arrivals, len(batch.token_ids)))
        self.position += len(batch.token_ids)
        self.settled_position = self.position
        self.go_on()
        self.point = Point.WRITING

    def begin_turn(self, prompt_tokens: int) -> None:
        """A prompt is in the transcript from here on."""
        self.monitor.begin_turn()
        self.position += prompt_tokens
        self.settled_position = self.position
        self.go_on()
        self.point = Point.WRITING

    def go_on(self) -> None:
        """The engine has to read the context before it generates."""
        self._awaits_first_token = True

    def _note(self, events: Sequence[Event], now: float) -> None:
        for event in events:
            awaits = bool(self._pending or self._inbox.arrivals)
            verdict = self._rules.judge(event, awaits=awaits)
            self.point = self.point.after(event)
            self._report(event, now)
            if isinstance(verdict, ProtocolError):
                self._mistake(verdict, now)
            elif verdict is not None:
                self.violation = self.violation or verdict

    def _report(self, event: Event, now: float) -> None:
        position = self.position
        tokens = position - self._opened_position
        match event:
            case Text(text, channel):
                self.events.append(TextWritten(position, now, text, channel))
            case Call():
                self.used_ids.add(event.id)
                self._pending.add(event, now)
                self.events.append(CallIssued(position, now, event, self._opened_at, tokens))
            case FireAndForget():
                self.events.append(SentOff(position, now, event, self._opened_at, tokens))
            case Trap():
                self.events.append(Trapped(position, now))
            case ProtocolError():
                self._mistake(event, now)
            case EndOfStream():
                pass

    def _mistake(self, error: ProtocolError, now: float) -> None:
        if error.call_id is not None:
            self.used_ids.add(error.call_id)
        self.events.append(Mistake(self.position, now, error))
        self._inbox.add(Arrival(error.interrupt, now))
