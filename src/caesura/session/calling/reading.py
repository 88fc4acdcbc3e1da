"""Reading a session's tokens as events."""

from collections import deque
from collections.abc import Sequence

from caesura.cml import (
    Call,
    EndOfStream,
    Event,
    FireAndForget,
    Monitor,
    Point,
    ProtocolError,
    Rules,
    State,
    Text,
    Trap,
    Violation,
)
from caesura.session.calling.arrivals import Arrival, Arrivals
from caesura.session.calling.course import Course
from caesura.session.calling.happenings import (
    CallingEvent,
    CallIssued,
    FirstToken,
    Injected,
    Mistake,
    SentOff,
    TextWritten,
    Trapped,
)
from caesura.session.calling.open_calls import OpenCalls
from caesura.session.protocol import Delta, StopReason


class Reading:
    """Follows a transcript token by token. Times are seconds of the session's clock.

    Args:
        monitor: reads the tokens.
        rules: judges what is forgiven.
        calls: gets the calls.
        arrivals: gets what the model is told of its mistakes.
        max_tokens: what the model may write in a turn.
        start: where the transcript begins.

    Attributes:
        monitor: reads the tokens.
        point: what the stream has come to.
        position: how many tokens the transcript has.
        max_tokens: what the model may write in a turn.
        generated_tokens: those that the model has written in the current turn.
        violation: why the session is over, if it is.
        events: not yet taken by the owner, each with the course after it.
    """

    def __init__(
        self,
        monitor: Monitor,
        rules: Rules,
        calls: OpenCalls,
        arrivals: Arrivals,
        max_tokens: int,
        start: Course,
    ) -> None:
        self.monitor = monitor
        self.max_tokens = max_tokens
        self.point = start.point
        self.position = start.position
        self.generated_tokens = start.generated_tokens
        self.violation: Violation | None = None
        self.events: deque[tuple[CallingEvent, Course]] = deque()
        self._rules = rules
        self._calls = calls
        self._arrivals = arrivals
        self._rounds = start.rounds
        self._refused_ids = start.refused_ids
        self._before_frame: Course | None = None  # that is open
        self._opened_at = 0.0
        self._opened_position = 0
        self._awaits_first_token = True

    @property
    def course(self) -> Course:
        """The state of the model here, or before the frame that is open."""
        return self._before_frame or self._course_here()

    @property
    def tokens_left(self) -> int:
        """Tokens that the model may still write in this turn; negative if the engine was ahead."""
        return self.max_tokens - self.generated_tokens

    @property
    def in_reasoning(self) -> bool:
        """Whether a reasoning block is open."""
        return self.monitor.state is State.REASONING

    def tell(self, event: CallingEvent) -> None:
        """Queue an event that happened here."""
        self.events.append((event, self.course))

    def take(self, delta: Delta, now: float) -> bool:
        """Take what was generated; whether interrupts took their place behind it."""
        if delta.token_ids and self._awaits_first_token:
            self._awaits_first_token = False
            self.tell(FirstToken(self.position, now, delta.cached_tokens))
        for token_id in delta.token_ids:
            self._take_token(token_id, now)
        if delta.stop in (StopReason.STOP, StopReason.LENGTH):
            self.end_turn(now)
        elif delta.stop is StopReason.FRAME:
            self._end_frame(now)
        if delta.stop is None or not self._arrivals.is_sent:
            return False
        self.place(now)
        return True

    def _take_token(self, token_id: int, now: float) -> None:
        was_open = self.monitor.in_critical_section
        events = self.monitor.feed((token_id,))
        is_open = self.monitor.in_critical_section
        if not is_open and self.monitor.state is not State.SKIPPED:
            self._before_frame = None
        elif self._before_frame is None:
            self._before_frame = self._course_here()
        self.position += 1
        self.generated_tokens += 1
        self._note(events, now)
        if is_open and (events or not was_open):
            self._opened_at, self._opened_position = now, self.position - 1

    def end_turn(self, now: float) -> None:
        """The model's turn is over here; nothing if it was already."""
        if self.point is not Point.ENDED:
            self._break_off(self.monitor.end_of_stream(), now)

    def _end_frame(self, now: float) -> None:
        """The engine ended the turn here, behind a frame or a bundle of calls."""
        self._break_off(self.monitor.injected(), now)
        if self.point is Point.CALLED:
            self.point = Point.WRITING  # no more calls belong to these

    def place(self, now: float) -> None:
        """The first batch that was sent is in the transcript from here on."""
        self._break_off(self.monitor.injected(), now)
        batch = self._arrivals.placed()
        event = Injected(self.position, now, batch.arrivals, len(batch.token_ids))
        self._append(event.tokens)
        self.tell(event)

    def begin_turn(self, prompt_tokens: int) -> None:
        """A prompt is in the transcript from here on."""
        self.monitor.begin_turn()
        self.generated_tokens = 0
        self._append(prompt_tokens)

    def _append(self, tokens: int) -> None:
        """Tokens that the model did not write are in the transcript from here on."""
        self.position += tokens
        self._rounds += 1
        self.point = Point.WRITING
        self.go_on()

    def go_on(self) -> None:
        """The engine has to read the context before it generates."""
        self._awaits_first_token = True

    def _break_off(self, events: Sequence[Event], now: float) -> None:
        """No frame is open any more."""
        self._before_frame = None
        self._note(events, now)

    def _note(self, events: Sequence[Event], now: float) -> None:
        for event in events:
            awaits = bool(self._calls or self._arrivals)
            verdict = self._rules.judge(event, awaits=awaits)
            self.point = self.point.after(event)
            error = event if isinstance(event, ProtocolError) else verdict
            if isinstance(error, ProtocolError):
                self._blame(error)
            self._report(event, now)
            if isinstance(error, ProtocolError):
                self.tell(Mistake(self.position, now, error))
            if isinstance(verdict, Violation):
                self.violation = self.violation or verdict

    def _report(self, event: Event, now: float) -> None:
        position = self.position
        tokens = position - self._opened_position
        match event:
            case Text(text, channel):
                self.tell(TextWritten(position, now, text, channel))
            case Call():
                self._calls.add(event, now)
                self.tell(CallIssued(position, now, event, self._opened_at, tokens))
            case FireAndForget():
                self.tell(SentOff(position, now, event, self._opened_at, tokens))
            case Trap():
                self.tell(Trapped(position, now))
            case ProtocolError() | EndOfStream():
                pass

    def _blame(self, error: ProtocolError) -> None:
        if error.call_id is not None:
            self._refused_ids = (*self._refused_ids, error.call_id)
        self._arrivals.add(Arrival(error.interrupt, is_error=True))

    def _course_here(self) -> Course:
        return Course(
            self.position,
            Point.WRITING if self.point is Point.CALLED else self.point,
            self.generated_tokens,
            self.in_reasoning,
            self._rounds,
            self._refused_ids,
            self._arrivals.errors,
        )
