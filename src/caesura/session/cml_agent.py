"""A session in CML: calls are made while it generates, and results come as interrupts."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from caesura.cml import USER_ID, AtEnd, Mode, Point
from caesura.session.agent import Agent
from caesura.session.calling import (
    CallingEvent,
    CallingSession,
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
    known_tools,
)
from caesura.session.database import Statement
from caesura.session.events import Report
from caesura.session.inbox import UserMessage
from caesura.session.protocol import Sampling, StopReason, require_room
from caesura.session.records import (
    CallRecord,
    EventType,
    Phase,
    SessionEnding,
    SessionRecord,
)
from caesura.session.shapes import (
    call_details,
    injected_details,
    interrupt_of,
    result_details,
    trapped_details,
    user_message,
)
from caesura.session.stretch import Stretch
from caesura.session.track import Track
from caesura.session.workplace import Workplace
from caesura.tools.call import ToolCall


class CmlAgent(Agent):
    """A session on a `CallingSession`.

    What it has done is written down, with the tokens that did it, at each call, each injection,
    each pause and each end; after a crash it goes on from the last of these.

    Raises:
        ValueError: the model cannot be told of calls in this way any more.
    """

    def __init__(
        self, record: SessionRecord, transcript: Sequence[int], workplace: Workplace
    ) -> None:
        super().__init__(record, transcript, workplace)
        if record.phase is not Phase.ENDED:
            self._format = workplace.formats.of(record.spec.protocol)
        self._session: CallingSession | None = None
        self._track = Track()
        self._stretch = Stretch(self.turns, self.events)
        self._reported_phase = self.phase
        self._passed_on: deque[UserMessage] = deque()  # to the engine's session, not injected yet
        self._handed_on: set[str] = set()  # the same of results, by the ids of their calls
        self._started_seconds: dict[str, float] = {}

    @property
    def _mode(self) -> Mode:
        return self.spec.function_calling or Mode.ASYNC

    # From what is stored

    async def _restore(self) -> None:
        store = self._work.store
        self._track = Track(await store.course(self.id), await store.labels(self.id))
        self._reported_phase = self.phase
        self._stretch = Stretch(self.turns, self.events)
        self._stretch.is_over = self.phase is not Phase.GENERATING or self.turns == 0
        self._calls.unread |= {r.call.id for r in self._calls.records if r.label is None}
        if self.phase is Phase.IDLE:
            await self._leave()
        if not self._stretch.is_over:
            await self.events.commit(reports=[(EventType.RESTARTED, {"turn": self.turns})])
        self._start(self._calls.unfinished)

    async def _opened(self) -> CallingSession:
        """The session in the engine: as it was left, or opened from what is stored."""
        if self._session is None:
            sampling = await self._sampling()
            self._passed_on.clear()
            self._inbox.take_back()
            calls = [r for r in self._calls.records if r.call.id not in self._calls.unread]
            self._handed_on = {record.call.id for record in calls if record.result is not None}
            self._session = CallingSession(
                self._work.engine,
                self._format,
                self._track.checkpoint(self._transcript, calls),
                sampling,
                mode=self._mode,
                at_end=self.spec.at_end or AtEnd.WAIT,
                tools=known_tools(self._definitions),
                expectations=self._work.durations_of(self.owner),
                session_id=self.id,
            )
        return self._session

    async def _sampling(self) -> Sampling:
        sampling = self.spec.sampling()
        if not self._work.formats.constrains:
            return sampling
        # All parameters of all tools are checked for it.
        grammar = await asyncio.to_thread(self._format.grammar, self._definitions, self._mode)
        return replace(sampling, grammar=grammar)

    async def _close_engine(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # Generating

    async def _generate(self) -> None:
        await self._follow()

    async def _call(self) -> None:
        await self._follow()

    async def _follow(self) -> None:
        """Do what the session's events say, until it ends its answer, is held or stopped."""
        await self._end_at_limit()
        if self.phase is Phase.ENDED:
            return
        if self._stretch.is_over and self.phase is Phase.GENERATING:
            await self._begin()
        session = await self._opened()
        watching = asyncio.create_task(self._watch(session))
        failure: Exception | None = None
        try:
            is_answered = await self._take_events(session)
        except Exception as error:
            failure = error
        finally:
            watching.cancel()
            (watched,) = await asyncio.gather(watching, return_exceptions=True)
        if isinstance(watched, Exception) and self.ending is None:
            raise watched  # what the session was closed for
        if failure is not None:
            raise failure
        if not is_answered:
            await self._keep_partial(session)
            await self._close_engine()

    async def _take_events(self, session: CallingSession) -> bool:
        """Take its events; whether they came to the end of an answer."""
        async with aclosing(session.events()) as happening:
            async for event in happening:
                await self._take(session, event)
                if self.phase in (Phase.IDLE, Phase.ENDED):
                    return True
                if self._may_stop(session, event):
                    break
        return False

    async def _watch(self, session: CallingSession) -> None:
        """Hand on what arrives meanwhile."""
        try:
            while True:
                if not self.held:
                    self._hand_on(session)
                    if self._inbox.has_news:
                        for message in await self._inbox.pass_on():
                            self._passed_on.append(message)
                            session.steer(message.text)
                await self._woken()
        except Exception:
            await session.close()
            raise

    def _hand_on(self, session: CallingSession) -> None:
        for record in self._calls.finished:
            if record.call.id not in self._handed_on and record.call.id not in self._calls.unread:
                self._handed_on.add(record.call.id)
                session.deliver(interrupt_of(record))

    def _may_stop(self, session: CallingSession, event: CallingEvent) -> bool:
        """Whether the session is to be stopped, and all that it has written can be kept."""
        if not (self.held or self._stop is not None) or self.phase is not Phase.GENERATING:
            return False
        is_latest = _end_of(event) == len(session.transcript)
        return is_latest and not session.in_critical_section

    async def _take(self, session: CallingSession, event: CallingEvent) -> None:
        match event:
            case FirstToken():
                self._stretch.cached_tokens = event.cached_tokens
            case TextWritten():
                self._stretch.add(event.text, event.channel)
            case CallIssued():
                await self._issued(session, event, event.call.id)
            case SentOff():
                await self._issued(session, event, None)
            case Mistake():
                self._track.mistake(event.error)
            case Trapped():
                self._track.point = Point.TRAPPED
            case Paused():
                await self._paused(session, event)
            case Injected():
                await self._injected(session, event)
            case Ended():
                await self._ended(session, event)

    async def _begin(self) -> None:
        """The first stretch of a prompt."""
        self._next_stretch()
        phase = self._work.store.set_phase(self.id, self.phase, self.turns)
        reports = [self._phase_report()]
        await self.events.commit(phase, reports=reports, pieces=self._pieces)

    def _next_stretch(self) -> None:
        if self._stretch.is_over:
            self.turns += 1
            self._stretch = Stretch(self.turns, self.events)

    async def _issued(
        self, session: CallingSession, event: CallIssued | SentOff, label: str | None
    ) -> None:
        """A call is complete: it is written down, and run unless too many are pending."""
        arguments = json.dumps(event.call.arguments, ensure_ascii=False)
        record = self._calls.add(event.call.name, arguments, self.turns, label)
        if label is None:
            self._calls.unread.add(record.call.id)
        else:
            self._track.labels.add(label)
        changes = [self._work.store.add_call(record)]
        reports: list[Report] = [(EventType.CALL, call_details(record))]
        refusal, limit = None, self.spec.max_pending_calls
        if len(self._calls.unfinished) > limit:
            refusal = self._calls.refusal(record, limit)
            changes += self._calls.finished_by(refusal)
            reports.append((EventType.RESULT, result_details(refusal)))
        await self._save(session, event.position, *changes, stop=StopReason.FRAME, reports=reports)
        if refusal is not None:
            self._calls.note(refusal)
        else:
            self._start([record])

    def _start(self, records: Sequence[CallRecord]) -> None:
        for record in records:
            self._started_seconds[record.call.id] = time.monotonic()
            self._calls.start([record])

    async def _paused(self, session: CallingSession, event: Paused) -> None:
        """Nothing is generated until a result is there."""
        at_end = session.is_at_end
        if at_end:
            self._track.point = Point.ENDED
        if at_end and self._is_left(event.pending):
            await self._answered(session, event.position, StopReason.STOP)
            return
        self.phase = Phase.CALLING
        waited_for = [record for record in self._calls.records if record.label in event.pending]
        await self._save(
            session,
            event.position,
            stop=StopReason.STOP if at_end else StopReason.FRAME,
            reports=[(EventType.TRAPPED, trapped_details(waited_for, self.turns))],
        )

    async def _injected(self, session: CallingSession, event: Injected) -> None:
        """Results and messages are in the transcript."""
        arrived = [arrival.interrupt for arrival in event.arrivals]
        messages = [self._passed_on.popleft() for one in arrived if one.id == USER_ID]
        by_label = {record.label: record for record in self._calls.finished if record.label}
        records = [by_label[one.id] for one in arrived if one.id in by_label]
        ids = [one.id for one in arrived]
        errors = [one.value if one in self._track.told else None for one in arrived]
        details = injected_details(ids, by_label, event.position, self.turns, errors)
        self._calls.remove(records)
        for record in records:
            self._started_seconds.pop(record.call.id, None)
        self._track.injected(arrived)
        self.phase = Phase.GENERATING
        await self._save(
            session,
            event.position + event.tokens,
            *[self._work.store.deliver_call(record.call.id) for record in records],
            *self._inbox.delivered(messages),
            stop=StopReason.INTERRUPTED,
            reports=[
                (EventType.INJECTED, details),
                *[(EventType.MESSAGE, user_message(message.text)) for message in messages],
            ],
            injected_tokens=event.tokens,
        )
        await self._end_at_limit()

    async def _end_at_limit(self) -> None:
        if self._track.rounds > self.spec.max_turns:
            limit = f"the session has had its {self.spec.max_turns} turns (max_turns)"
            await self._end(SessionEnding.LIMIT, limit)

    # The end of an answer

    async def _ended(self, session: CallingSession, event: Ended) -> None:
        stop = StopReason.LENGTH if event.ending is Ending.LIMIT else StopReason.STOP
        if event.does_not_fit:  # the transcript has not what the model was to read
            self._next_stretch()
            await self._save(session, event.position, stop=stop, continues=False)
            await self._end(SessionEnding.LIMIT, event.message)
            return
        await self._answered(session, event.position, stop)
        if event.ending is Ending.FAILED:
            await self._end(SessionEnding.FAILED, event.message)

    async def _answered(self, session: CallingSession, position: int, stop: StopReason) -> None:
        """The model has ended its answer; whatever is pending is left."""
        self.phase, self._track.point = Phase.IDLE, Point.ENDED
        self._inbox.take_back()
        self._next_stretch()
        await self._save(session, position, stop=stop, continues=False)
        if session.pending:  # it would wait for what is left
            await self._close_engine()
        await self._leave()

    def _is_left(self, labels: frozenset[str]) -> bool:
        """Whether no tool of these calls wants its result read."""
        if self.spec.at_end is not None:
            return False
        names = [record.call.name for record in self._calls.records if record.label in labels]
        return all(self._work.executor.at_end(name) != "wait" for name in names)

    async def _deliver(self) -> bool:
        messages = await self._inbox.waiting()
        if not messages:
            return False
        chat = [user_message(message.text) for message in messages]
        append = self._format.append
        tokens = await asyncio.to_thread(append, self._transcript, chat, self._mode)
        longest = self._work.dialogue.max_context_tokens
        require_room(len(self._transcript) + len(tokens), longest)
        self.phase = Phase.GENERATING
        self._track.prompted()
        self._next_stretch()
        await self._advance(
            tokens,
            self._work.store.set_course(self.id, self._track.course),
            *self._inbox.delivered(messages),
            reports=[*[(EventType.MESSAGE, message) for message in chat], self._phase_report()],
            pieces=self._pieces,
        )
        if self._session is not None:
            if self._session.has_queued:  # a message that came too late, and is there now
                await self._close_engine()
            else:
                self._session.prompt(tokens)
        return True

    # Writing down

    async def _save(
        self,
        session: CallingSession,
        position: int,
        *changes: Statement,
        stop: StopReason,
        reports: Sequence[Report] = (),
        continues: bool = True,
        injected_tokens: int = 0,
    ) -> None:
        """Write the transcript up to a position, and what has happened there.

        Args:
            session: has the tokens.
            position: how many tokens it has there.
            changes: written with them.
            stop: what ended the stretch.
            reports: what has happened.
            continues: the answer goes on.
            injected_tokens: of the tokens up to the position, how many the model did not write.
        """
        tokens = session.transcript[len(self._transcript) : position]
        generated = len(tokens) - injected_tokens
        phase_before = self._reported_phase
        told: list[Report] = []
        if generated or not continues:
            told.append(self._stretch.finish(stop, generated, continues=continues))
        told += reports
        if self.phase is Phase.GENERATING and continues:
            self._next_stretch()
        if self.phase is not phase_before:
            told.append(self._phase_report())
        reached = self._track.written(generated, reasoning=session.in_reasoning)
        course = self._work.store.set_course(self.id, reached)
        pieces = self._pieces
        await self._advance(tokens, course, *changes, reports=told, pieces=pieces)
        self._reported_phase = self.phase

    async def _keep_partial(self, session: CallingSession) -> None:
        """It is stopped in the middle of what it writes; a frame that is open is lost."""
        position = session.settled_position
        if self.phase is Phase.GENERATING and position > len(self._transcript):
            await self._save(session, position, stop=StopReason.INTERRUPTED)

    @property
    def _pieces(self) -> int:
        return 2 * self.spec.max_tokens

    # Progress

    def _expect(
        self, call: ToolCall, fraction: float | None, remaining_seconds: float | None
    ) -> None:
        labels = {record.call.id: record.label for record in self._calls.unfinished}
        label, started_seconds = labels.get(call.id), self._started_seconds.get(call.id)
        if self._session is None or label is None:
            return
        if remaining_seconds is None and fraction and started_seconds is not None:
            elapsed_seconds = time.monotonic() - started_seconds
            remaining_seconds = elapsed_seconds * (1 - fraction) / fraction
        if remaining_seconds is not None:
            self._session.expect(label, remaining_seconds)


def _end_of(event: CallingEvent) -> int:
    """Tokens of the transcript once the event is over."""
    return event.position + (event.tokens if isinstance(event, Injected) else 0)
