"""A conversation whose model calls functions while it generates."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from caesura.cml import (
    ERROR_ID,
    USER_ID,
    AtEnd,
    End,
    Inject,
    Interrupt,
    KnownTools,
    Mode,
    Pause,
    Point,
    Rules,
)
from caesura.endpoints import CLIENT
from caesura.session.calling.arrivals import Arrival, Arrivals
from caesura.session.calling.checkpoint import Checkpoint
from caesura.session.calling.codec import Codec
from caesura.session.calling.course import Course
from caesura.session.calling.durations import Durations, Expectations
from caesura.session.calling.generation import Generation
from caesura.session.calling.happenings import CallingEvent, Ended, Ending, Paused
from caesura.session.calling.injection import Injection
from caesura.session.calling.life import Failed, Life, Limited, Prompted, Stage, after
from caesura.session.calling.open_calls import OpenCalls
from caesura.session.calling.reading import Reading
from caesura.session.calling.steps import Steps
from caesura.session.errors import ContextFull, EngineFailed, NotPaused, SessionClosed
from caesura.session.fitting import room_after
from caesura.session.protocol import Sampling, StopReason, TokenEngine


class CallingSession:
    """One conversation in CML on an engine.

    Iterate `events`, run the calls that are issued, and `deliver` their results at any time: they
    are queued, and take their place where the mode and the grammar allow it. Nothing is sent to
    the engine before the events are iterated, and nothing is executed here.

    Args:
        engine: generates; it has to know `Sampling.frames`.
        codec: knows the model.
        start: a prompt, or where a session is to go on.
        sampling: how the model writes. `max_tokens` is for a whole turn: from a prompt to the
            model's end, over interrupts and pauses. `frames` is set here.
        mode: what happens at a call.
        at_end: what happens to calls that are pending when the model ends.
        tools: what calls may say; None accepts any.
        expectations: how long calls take, to be shared by the owner's sessions.
        session_id: unique among open sessions; made up by default.
        context_tokens: the model's longest context: results that it has no room for are cut, and
            the model is told; None for any.
        clock: seconds, for events.

    Attributes:
        course: the state of the model after the latest event, from which a session can go on.
    """

    def __init__(
        self,
        engine: TokenEngine,
        codec: Codec,
        start: Checkpoint,
        sampling: Sampling,
        *,
        mode: Mode,
        at_end: AtEnd = AtEnd.WAIT,
        tools: KnownTools | None = None,
        expectations: Expectations | None = None,
        session_id: str | None = None,
        context_tokens: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.course = start.course or Course(len(start.token_ids))
        self._waits_for_all = mode is not Mode.ASYNC
        self._clock = clock
        token_ids = start.token_ids[: self.course.position]
        used_ids = {
            *start.used_ids,
            *self.course.refused_ids,
            *(call.id for call in start.pending),
        }
        # A character or a quoted marker may be half written, unless a turn ended there.
        before = token_ids if self.course.point is Point.WRITING else ()
        self._calls = OpenCalls(expectations or Durations(), start.pending, clock())
        self._arrivals = Arrivals(
            codec,
            [Arrival(error, is_error=True) for error in self.course.errors],
            None if context_tokens is None else partial(self._room, context_tokens),
        )
        self._reading = Reading(
            codec.monitor(tools, used_ids, self.course.state, before),
            Rules(),
            self._calls,
            self._arrivals,
            sampling.max_tokens,
            self.course,
        )
        self._steps = Steps(mode, at_end, self._reading, self._calls, self._arrivals)
        sampling = replace(sampling, frames=codec.frame_rules(mode))
        self._generation = Generation(engine, session_id, token_ids, sampling)
        self._injection = Injection(
            self._arrivals, self._generation, self._reading, self._steps, clock
        )
        self._life: Life = Stage.GOING
        self._report_is_due = False  # of how long a pause will last
        self._named = CLIENT  # what a pause waits for, as the engine was told
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # What can be seen

    @property
    def transcript(self) -> Sequence[int]:
        """All tokens so far, maybe beyond the latest event; of the session, not to be changed."""
        return self._generation.transcript

    @property
    def pending(self) -> frozenset[str]:
        """Calls whose results have not been delivered."""
        return self._calls.ids

    @property
    def generated_tokens(self) -> int:
        """What the model has written in the current turn."""
        return self._reading.generated_tokens

    @property
    def in_critical_section(self) -> bool:
        """Whether the session is not to be left here: a frame is open where the events have come
        to, or some of them are still to be taken."""
        return self._reading.monitor.in_critical_section or bool(self._reading.events)

    @property
    def has_queued(self) -> bool:
        """Whether something has arrived that is in no event yet."""
        return bool(self._arrivals)

    def _room(self, context_tokens: int) -> int:
        """How many tokens may be injected now, so that the model can still write."""
        left = self._reading.tokens_left
        return room_after(len(self._generation.transcript), context_tokens, left)

    # What its owner does

    def deliver(self, interrupt: Interrupt, source: object = None) -> bool:
        """Take a result as it arrives, in any state of the session.

        Args:
            interrupt: the result, or a message of the user.
            source: a handle of the owner, which comes back in the `Injected` event.

        Returns:
            False if it was not taken: its call is not pending, or the session is closed.
        """
        if self._life is Stage.CLOSED:
            return False
        is_result = interrupt.id not in (USER_ID, ERROR_ID)
        if is_result and not self._calls.take(interrupt.id, self._clock()):
            return False
        self._arrivals.add(Arrival(interrupt, source))
        self._report_is_due = True
        if not self._generation.is_running:
            self._wake.set()
        elif self._injection.may_interrupt:
            self._spawn(self._injection.interrupt)
        return True

    def steer(self, message: str, source: object = None) -> bool:
        """Take a message of the user; False if the session is closed."""
        return self.deliver(Interrupt.steering(message), source)

    def expect(self, call_id: str, fraction: float | None, remaining_seconds: float | None) -> None:
        """Note a call's progress: the share that is done, or the seconds that are left."""
        if self._calls.expect(call_id, fraction, remaining_seconds, self._clock()):
            self._report_is_due = True
            self._wake.set()

    def asks(self, call_id: str, for_human: bool) -> None:
        """Note that a call waits for a human now, or no longer."""
        if self._calls.asks(call_id, for_human, self._clock()):
            self._report_is_due = True
            if self._generation.is_running:
                self._name_next_pause()
            self._wake.set()

    def _name_next_pause(self) -> None:
        """Tell the engine, while it generates, what a pause would wait for now."""
        endpoint = self._calls.endpoint(until_all=self._waits_for_all) or CLIENT
        if endpoint != self._named:
            self._named = endpoint
            self._spawn(partial(self._generation.name_next_pause, endpoint))

    def prompt(self, token_ids: Sequence[int]) -> None:
        """Begin the next turn, after `Ended`; iterate the events again.

        What has arrived since takes its place before the prompt, in the turn that ended.

        Raises:
            NotPaused: the model's turn is not over; use `steer`.
            SessionClosed: the session is closed.
        """
        if self._life is Stage.CLOSED:
            raise SessionClosed("the session is closed")
        if self._life is not Stage.ENDED:
            raise NotPaused("the model's turn is not over; use steer() to interrupt it")
        self._life = Prompted(token_ids)

    async def close(self) -> None:
        """End the session at any moment: nothing more is generated or taken."""
        self._life = Stage.CLOSED
        self._wake.set()
        for task in self._tasks:
            task.cancel()
        await self._generation.halt()

    async def events(self) -> AsyncGenerator[CallingEvent, None]:
        """What happens, until the model's turn has ended or the session is closed.

        What had happened when it was closed is told.

        Raises:
            SessionError: the engine failed; the transcript is intact.
        """
        while True:
            while self._reading.events:
                event, self.course = self._reading.events.popleft()
                yield event
            life = self._life
            match life:
                case Stage.CLOSED:
                    break
                case Stage.ENDED:
                    return
                case Failed(error):
                    raise error
            try:
                await (self._read() if self._generation.is_running else self._decide())
            except SessionClosed:
                if self._life is not Stage.CLOSED:
                    raise
            except ContextFull as error:
                self._life = after(self._life, error)
        await self._generation.halt()  # closed while it was opened

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        async def guarded() -> None:
            try:
                await work()
            except Exception as error:
                self._life = after(self._life, error)
            self._wake.set()

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What is decided

    async def _decide(self) -> None:
        """The engine does not generate: go on, wait, or end."""
        step = self._steps.next
        if isinstance(self._life, Prompted):
            prompt, self._life = self._life.token_ids, Stage.GOING
            await self._injection.begin_turn(prompt)
        elif self._reading.violation is not None:
            self._end(Ending.FAILED, self._reading.violation.message)
        elif isinstance(self._life, Limited):
            self._end(Ending.LIMIT, self._life.message, does_not_fit=self._life.does_not_fit)
        elif isinstance(step, End):
            self._end(Ending.COMPLETED)
        elif self._reading.tokens_left <= 0:
            self._end(Ending.LIMIT, self._tokens_spent())
        elif isinstance(step, Pause):
            await self._wait(step)
        else:
            self._life = Stage.GOING
            self._named = CLIENT  # a name is for one pause
            if isinstance(step, Inject):
                await self._injection.end_pause()
            else:
                self._reading.go_on()
                left = self._reading.tokens_left
                await self._generation.go_on((), left, self._reading.in_reasoning)

    def _end(
        self, ending: Ending, message: str | None = None, *, does_not_fit: bool = False
    ) -> None:
        self._life = Stage.ENDED
        now = self._clock()
        self._reading.end_turn(now)
        position, pending = self._reading.position, self._calls.ids
        self._reading.tell(Ended(position, now, ending, message, pending, does_not_fit))

    def _tokens_spent(self) -> str:
        return f"the turn has had its {self._reading.max_tokens} tokens (max_tokens)"

    async def _wait(self, pause: Pause) -> None:
        """The first time tell of the pause; then wait until something arrives."""
        if self._life is Stage.WAITING and not self._report_is_due:
            await self._wake.wait()
            self._wake.clear()
            return
        now = self._clock()
        remaining = self._calls.remaining_seconds(now, until_all=self._waits_for_all)
        report = self._generation.report_progress
        self._named = self._calls.endpoint(until_all=self._waits_for_all)
        self._spawn(partial(report, remaining, self._named))
        self._report_is_due = False
        if self._life is not Stage.WAITING:
            self._life = Stage.WAITING
            self._reading.tell(Paused(self._reading.position, now, pause.pending, remaining))

    # What is written

    async def _read(self) -> None:
        delta = await self._generation.next_delta()
        if delta is None:
            self._life = after(self._life, EngineFailed("the engine ended the session"))
            return
        placed = self._reading.take(delta, self._clock())
        spent = self._reading.tokens_left <= 0
        if delta.stop is StopReason.LENGTH:
            message = self._tokens_spent() if spent else "the model's context is full"
            self._life = after(self._life, Limited(message))
        if not self._generation.is_running:
            return
        self._name_next_pause()
        if spent:
            self._life = after(self._life, Limited(self._tokens_spent()))
        if isinstance(self._life, Limited) or self._reading.violation is not None:
            await self._injection.halt()
        elif placed and isinstance(self._steps.next, Pause):
            # A message of the user came in just when a call was completed that is waited for.
            await self._injection.halt()
        elif self._arrivals.queued and self._injection.may_interrupt:
            await self._injection.interrupt()
