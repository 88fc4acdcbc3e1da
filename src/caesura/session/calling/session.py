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
    Situation,
    State,
    next_step,
)
from caesura.cml.modes import Step
from caesura.session.calling.checkpoint import Checkpoint
from caesura.session.calling.codec import Codec
from caesura.session.calling.durations import Durations, Expectations
from caesura.session.calling.events import (
    Arrival,
    CallingEvent,
    Ended,
    Ending,
    Paused,
)
from caesura.session.calling.generation import Generation
from caesura.session.calling.inbox import Inbox
from caesura.session.calling.pending import PendingCalls
from caesura.session.calling.reading import Reading
from caesura.session.errors import (
    ContextFull,
    EngineFailed,
    NotPaused,
    SessionClosed,
    SessionDetached,
)
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
        rules: judges what is forgiven.
        clock: seconds, for events.

    Attributes:
        mode: what happens at a call.
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
        rules: Rules | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.mode = mode
        self._at_end = at_end
        self._clock = clock
        sampling = replace(sampling, frames=codec.frame_rules(mode))
        self._generation = Generation(
            engine, session_id, start.token_ids, sampling, start.generated_tokens
        )
        self._pending = PendingCalls(expectations or Durations())
        now = clock()
        for call in start.pending:
            self._pending.add(call, now)
        self._inbox = Inbox(codec, [Arrival(interrupt, now) for interrupt in start.queued])
        self._prompt: Sequence[int] | None = None  # begins a turn
        used_ids = {*start.used_ids, *(call.id for call in start.pending)}
        monitor = codec.monitor(tools, used_ids, start.state, start.read_on_from(mode))
        self._reading = Reading(monitor, rules or Rules(), self._pending, self._inbox, start)
        self._paused = False
        self._progress_due = False
        self._limit: str | None = None
        self._does_not_fit = False
        self._failure: Exception | None = None
        self._ended = self._closed = False
        self._wake = asyncio.Event()
        self._injecting = asyncio.Lock()
        self._injector: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # What can be seen

    @property
    def transcript(self) -> Sequence[int]:
        """All tokens up to where the events have come to; of the session, not to be changed."""
        return self._generation.transcript

    @property
    def pending(self) -> frozenset[str]:
        """Calls whose results have not been delivered."""
        return self._pending.ids

    @property
    def generated_tokens(self) -> int:
        """What the model has written in the current turn."""
        return self._generation.generated_tokens

    @property
    def in_critical_section(self) -> bool:
        """Whether the session is not to be left here: a frame is open where the events have come
        to, or some of them are still to be taken."""
        return self._reading.monitor.in_critical_section or bool(self._reading.events)

    @property
    def settled_position(self) -> int:
        """Tokens of the transcript when no frame was open last, if all events are taken."""
        return self._reading.settled_position

    @property
    def is_at_end(self) -> bool:
        """Whether the model has ended its turn; calls may be pending."""
        return self._reading.point is Point.ENDED

    @property
    def has_queued(self) -> bool:
        """Whether something has arrived that is in no event yet."""
        return self._inbox.is_queued or self._inbox.is_sent

    @property
    def in_reasoning(self) -> bool:
        """Whether a reasoning block is open where the events have come to."""
        return self._reading.monitor.state is State.REASONING

    def checkpoint(self) -> Checkpoint:
        """Where the session stands after the latest event; not for a critical section."""
        return Checkpoint(
            token_ids=tuple(self.transcript),
            used_ids=frozenset(self._reading.used_ids),
            pending=tuple(self._pending),
            queued=tuple(arrival.interrupt for arrival in self._inbox.arrivals),
            point=Point.WRITING if self._reading.point is Point.CALLED else self._reading.point,
            generated_tokens=self.generated_tokens,
            reasoning=self.in_reasoning,
        )

    # What its owner does

    def deliver(self, *interrupts: Interrupt) -> bool:
        """Take results as they arrive, in any state of the session.

        Returns:
            False if one of them was not taken: its call is not pending, or the session is closed.
        """
        if self._closed:
            return False
        now = self._clock()
        taken = [self._accept(interrupt, now) for interrupt in interrupts]
        self._something_arrived()
        return all(taken)

    def steer(self, message: str) -> bool:
        """Take a message of the user; False if the session is closed."""
        return self.deliver(Interrupt.steering(message))

    def cancel(self, call_id: str, message: str = "The call was cancelled.") -> bool:
        """Wait for a call no longer, and tell the model; False if it is not pending."""
        if self._closed or not self._pending.take(call_id, self._clock(), completed=False):
            return False
        failure = Interrupt.of_failure(call_id, "cancelled", message)
        self._inbox.add(Arrival(failure, self._clock()))
        self._something_arrived()
        return True

    def expect(self, call_id: str, remaining_seconds: float) -> None:
        """Note what a tool says about the rest of its call."""
        if self._pending.expect(call_id, remaining_seconds, self._clock()):
            self._progress_due = True
            self._wake.set()

    def prompt(self, token_ids: Sequence[int]) -> None:
        """Begin the next turn, after `Ended`; iterate the events again.

        What has arrived since takes its place before the prompt, in the turn that ended.

        Raises:
            NotPaused: the model's turn is not over; use `steer`.
            SessionClosed: the session is closed.
        """
        if self._closed:
            raise SessionClosed("the session is closed")
        if not self._ended:
            raise NotPaused("the model's turn is not over; use steer() to interrupt it")
        self._prompt = list(token_ids)
        self._ended = False
        self._limit, self._does_not_fit = None, False

    async def close(self) -> None:
        """End the session at any moment: nothing more is generated or taken."""
        self._closed = True
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
                yield self._reading.events.popleft()
            if self._closed:
                break
            if self._ended:
                return
            if self._failure is not None:
                raise self._failure
            try:
                await (self._read() if self._generation.is_running else self._decide())
            except SessionClosed:
                if not self._closed:
                    raise
            except ContextFull as error:
                self._limit, self._does_not_fit = str(error), True
        await self._generation.halt()  # closed while it was opened

    # What arrives

    def _accept(self, interrupt: Interrupt, now: float) -> bool:
        is_result = interrupt.id not in (USER_ID, ERROR_ID)
        if is_result and not self._pending.take(interrupt.id, now):
            return False
        self._inbox.add(Arrival(interrupt, now))
        return True

    def _something_arrived(self) -> None:
        self._progress_due = True
        if not self._generation.is_running:
            self._wake.set()
        elif (self._injector is None or self._injector.done()) and self._may_interrupt:
            self._injector = self._spawn(self._interrupt)

    @property
    def _is_to_inject(self) -> bool:
        return isinstance(self._step(), Inject)

    @property
    def _may_interrupt(self) -> bool:
        return not self._injecting.locked() and self._is_to_inject

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work()
            except ContextFull as error:
                self._limit, self._does_not_fit = str(error), True
            except Exception as error:
                self._failure = error
            self._wake.set()

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # What is decided

    def _step(self) -> Step:
        # In asynchronous mode the engine itself finds the place behind an open frame. In the
        # others a call must not be followed by anything before its result.
        holds_back = self.mode is not Mode.ASYNC and self._reading.monitor.in_critical_section
        situation = Situation(
            self._reading.point, self._pending.ids, self._inbox.is_queued, holds_back
        )
        return next_step(self.mode, situation, self._at_end)

    async def _decide(self) -> None:
        """The engine does not generate: go on, wait, or end."""
        if self._prompt is not None:
            await self._begin_turn(self._prompt)
            return
        step = self._step()
        if self._reading.violation is not None:
            self._end(Ending.FAILED, self._reading.violation.message)
        elif self._limit is not None:
            self._end(Ending.LIMIT, self._limit)
        elif isinstance(step, End):
            self._end(Ending.COMPLETED)
        elif self._generation.tokens_left <= 0:
            self._end(Ending.LIMIT, self._tokens_spent())
        elif isinstance(step, Pause):
            await self._wait(step)
        elif isinstance(step, Inject):
            await self._inject()
        else:
            self._paused = False
            self._reading.go_on()
            await self._generation.go_on(in_reasoning=self.in_reasoning)

    def _end(self, ending: Ending, message: str | None = None) -> None:
        self._ended = True
        position, now = self._reading.position, self._clock()
        self._reading.events.append(
            Ended(position, now, ending, message, self._pending.ids, self._does_not_fit)
        )

    def _tokens_spent(self) -> str:
        return f"the turn has had its {self._generation.max_tokens} tokens (max_tokens)"

    async def _wait(self, pause: Pause) -> None:
        """The first time tell of the pause; then wait until something arrives."""
        if self._paused and not self._progress_due:
            await self._wake.wait()
            self._wake.clear()
            return
        now = self._clock()
        until_all = self.mode is not Mode.ASYNC
        remaining = self._pending.remaining_seconds(now, until_all=until_all)
        report = self._generation.report_progress
        self._spawn(partial(report, remaining, self._pending.endpoint))
        self._progress_due = False
        if not self._paused:
            self._paused = True
            self._reading.events.append(
                Paused(self._reading.position, now, pause.pending, remaining)
            )

    # What is injected

    async def _interrupt(self) -> None:
        """Send what is queued to the running generation."""
        async with self._injecting:
            while self._generation.is_running and self._is_to_inject:
                if self._generation.tokens_left <= 0:
                    return
                batch = await self._inbox.take()
                if not self._generation.is_running:
                    self._inbox.give_back(batch)
                    break
                self._inbox.note_sent(batch)
                try:
                    await self._generation.interrupt(batch.token_ids)
                except SessionClosed:  # halted meanwhile, and the batch queued again
                    break
                except SessionDetached:  # just let go; it is opened anew with the next delta
                    self._inbox.note_refused(batch)
                    break
                except BaseException:
                    self._inbox.note_refused(batch)
                    raise

    async def _inject(self) -> None:
        """End the pause with what is queued."""
        async with self._injecting:
            batch = await self._inbox.take()
            try:
                await self._generation.go_on(batch.token_ids, self.in_reasoning)
            except BaseException:
                self._inbox.give_back(batch)
                raise
            self._reading.place(batch, self._clock())
            self._paused = False

    async def _begin_turn(self, prompt: Sequence[int]) -> None:
        async with self._injecting:
            batch = await self._inbox.take()
            self._generation.begin_turn()
            self._prompt = None
            try:
                await self._generation.go_on([*batch.token_ids, *prompt])
            except BaseException:
                self._inbox.give_back(batch)
                raise
            if batch.arrivals:
                self._reading.place(batch, self._clock())
            self._reading.begin_turn(len(prompt))
            self._paused = False

    async def _halt(self) -> None:
        """Stop the engine here. What it has not placed waits again, before what came later."""
        self._inbox.recall()
        await self._generation.halt()

    # What is written

    async def _read(self) -> None:
        delta = await self._generation.next_delta()
        if delta is None:
            if not self._closed:
                self._failure = EngineFailed("the engine ended the session")
            return
        placed = self._reading.take(delta, self._clock())
        if delta.stop is StopReason.LENGTH:
            spent = self._generation.tokens_left <= 0
            self._limit = self._tokens_spent() if spent else "the model's context is full"
        if not self._generation.is_running:
            return
        if self._limit is None and self._generation.tokens_left <= 0:
            self._limit = self._tokens_spent()
        if self._limit is not None or self._reading.violation is not None:
            await self._halt()
            self._reading.end_turn(self._clock())
        elif placed and isinstance(self._step(), Pause):
            # A message of the user came in just when a call was completed that is waited for.
            await self._halt()
        elif self._inbox.is_queued and self._may_interrupt:
            await self._interrupt()
