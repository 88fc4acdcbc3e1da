"""A session in CML: calls are made while it generates, and results come as interrupts."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing

from caesura.cml import Point
from caesura.session.agent import Agent
from caesura.session.calling import (
    CallingEvent,
    CallingSession,
    CallIssued,
    Course,
    Ended,
    Ending,
    FirstToken,
    Injected,
    Paused,
    SentOff,
    TextWritten,
)
from caesura.session.database import Statement
from caesura.session.engine_side import EngineSide
from caesura.session.events import Report
from caesura.session.inbox import UserMessage
from caesura.session.protocol import StopReason, require_room
from caesura.session.records import CallRecord, EventType, Phase, SessionEnding, SessionRecord
from caesura.session.shapes import (
    arrival_details,
    call_details,
    injected_details,
    result_details,
    trapped_details,
    user_message,
)
from caesura.session.stretch import Stretch
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
            self._engine = EngineSide(
                record, self._definitions, workplace, self._calls, self._inbox
            )
        self._course = Course(len(transcript))  # what is stored; the session may be ahead
        self._stretch = Stretch(self.turns, self.events)
        self._reported_phase = self.phase

    # From what is stored

    async def _restore(self) -> None:
        self._course = await self._work.store.course(self.id, len(self._transcript))
        self._reported_phase = self.phase
        self._stretch = Stretch(self.turns, self.events)
        self._stretch.is_over = self.phase is not Phase.GENERATING or self.turns == 0
        self._calls.unread |= {r.call.id for r in self._calls.records if r.label is None}
        if self.phase is Phase.IDLE:
            await self._leave()
        if not self._stretch.is_over:
            await self.events.commit(reports=[(EventType.RESTARTED, {"turn": self.turns})])
        for record in self._calls.unfinished:
            self._calls.start([record])

    async def _close_engine(self) -> None:
        await self._engine.close()

    # Generating

    async def _generate(self) -> None:
        """Do what the session's events say, until it ends its answer, is held or stopped."""
        await self._end_at_limit()
        if self.phase is Phase.ENDED:
            return
        if self._stretch.is_over and self.phase is Phase.GENERATING:  # the first of a prompt
            self._next_stretch()
            await self._store((), self._course, reports=[self._phase_report()])
        session = await self._engine.opened(self._transcript, self._course)
        if self._stop is not None:  # since before there was a session to be closed
            return
        passing_on = self._engine.pass_on(session, lambda: self.held, self._woken)
        watching = asyncio.create_task(passing_on)
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

    _call = _generate

    async def _take_events(self, session: CallingSession) -> bool:
        """Take its events; whether they came to the end of an answer."""
        async with aclosing(session.events()) as happening:
            async for event in happening:
                await self._take(session, event)
                if self.phase in (Phase.IDLE, Phase.ENDED):
                    return True
                if self._is_to_stop and not session.in_critical_section:
                    break
        return False

    @property
    def _is_to_stop(self) -> bool:
        return (self.held or self._stop is not None) and self.phase is Phase.GENERATING

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
            case Paused():
                await self._paused(session, event)
            case Injected():
                await self._injected(session, event)
            case Ended():
                await self._ended(session, event)

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
        changes = [self._work.store.add_call(record)]
        reports: list[Report] = [(EventType.CALL, call_details(record))]
        refusal, limit = None, self.spec.max_pending_calls
        if len(self._calls.unfinished) > limit:
            refusal = self._calls.refusal(record, limit)
            changes += self._calls.finished_by(refusal)
            reports.append((EventType.RESULT, result_details(refusal)))
        await self._save(session, *changes, stop=StopReason.FRAME, reports=reports)
        if refusal is not None:
            self._calls.note(refusal)
        else:
            self._calls.start([record])

    async def _paused(self, session: CallingSession, event: Paused) -> None:
        """Nothing is generated until a result is there."""
        waited_for = [record for record in self._calls.records if record.label in event.pending]
        at_end = session.course.point is Point.ENDED
        may_leave = at_end and self.spec.at_end is None
        if may_leave and not any(map(self._is_waited_for, waited_for)):
            await self._answered(session, StopReason.STOP)
            return
        self.phase = Phase.CALLING
        await self._save(
            session,
            stop=StopReason.STOP if at_end else StopReason.FRAME,
            reports=[(EventType.TRAPPED, trapped_details(waited_for, self.turns))],
        )

    async def _injected(self, session: CallingSession, event: Injected) -> None:
        """Results and messages are in the transcript."""
        sources = [arrival.source for arrival in event.arrivals]
        messages = [source for source in sources if isinstance(source, UserMessage)]
        records = [source for source in sources if isinstance(source, CallRecord)]
        told = list(map(arrival_details, event.arrivals))
        details = injected_details(told, event.position, self.turns)
        self._calls.remove(records)
        self.phase = Phase.GENERATING
        await self._save(
            session,
            *[self._work.store.deliver_call(record.call.id) for record in records],
            *self._inbox.delivered(messages),
            stop=StopReason.INTERRUPTED,
            reports=[
                (EventType.INJECTED, details),
                *[(EventType.MESSAGE, user_message(message.text)) for message in messages],
            ],
        )
        await self._end_at_limit()

    async def _end_at_limit(self) -> None:
        await self._require_room()
        if self._course.rounds > self.spec.max_turns:
            limit = f"the session has had its {self.spec.max_turns} turns (max_turns)"
            await self._end(SessionEnding.LIMIT, limit)

    # The end of an answer

    async def _ended(self, session: CallingSession, event: Ended) -> None:
        stop = StopReason.LENGTH if event.ending is Ending.LIMIT else StopReason.STOP
        if event.does_not_fit:  # the transcript has not what the model was to read
            await self._save(session, stop=stop, continues=False)
            await self._end(SessionEnding.LIMIT, event.message)
            return
        await self._answered(session, stop)
        if event.ending is Ending.FAILED:
            await self._end(SessionEnding.FAILED, event.message)

    async def _answered(self, session: CallingSession, stop: StopReason) -> None:
        """The model has ended its answer; whatever is pending is left."""
        self.phase = Phase.IDLE
        await self._save(session, stop=stop, continues=False)
        if session.pending:  # it would wait for what is left
            await self._close_engine()
        await self._leave()

    async def _deliver(self) -> bool:
        messages = await self._inbox.waiting()
        if not messages:
            return False
        chat = [user_message(message.text) for message in messages]
        tokens = await self._engine.rendered(chat, self._transcript)
        longest = self._work.dialogue.max_context_tokens
        require_room(len(self._transcript) + len(tokens), longest)
        self.phase = Phase.GENERATING
        self._next_stretch()
        await self._store(
            tokens,
            self._course.prompted(len(tokens)),
            *self._inbox.delivered(messages),
            reports=[*[(EventType.MESSAGE, message) for message in chat], self._phase_report()],
        )
        await self._engine.prompt(tokens)
        return True

    # Writing down

    async def _save(
        self,
        session: CallingSession,
        *changes: Statement,
        stop: StopReason,
        reports: Sequence[Report] = (),
        continues: bool = True,
    ) -> None:
        """Write where the session stands, and what has happened there."""
        course = session.course
        if course.position < self._course.position:
            course = self._course  # a prompt is stored that the session had no room for
        generated = course.generated_tokens - self._course.generated_tokens
        told: list[Report] = []
        if not continues:
            self._next_stretch()  # an answer has an end, if an empty one
        if generated or not continues:
            told.append(self._stretch.finish(stop, generated, continues=continues))
        told += reports
        if self.phase is Phase.GENERATING and continues:
            self._next_stretch()
        if self.phase is not self._reported_phase:
            told.append(self._phase_report())
        tokens = session.transcript[len(self._transcript) : course.position]
        await self._store(tokens, course, *changes, reports=told)

    async def _store(
        self, tokens: Sequence[int], course: Course, *changes: Statement, reports: Sequence[Report]
    ) -> None:
        stored = self._work.store.set_course(self.id, course)
        pieces = 2 * self.spec.turn_tokens
        await self._advance(tokens, stored, *changes, reports=reports, pieces=pieces)
        self._course = course
        self._reported_phase = self.phase

    async def _keep_partial(self, session: CallingSession) -> None:
        """It is stopped in the middle of what it writes; a frame that is open is lost."""
        if self.phase is Phase.GENERATING and session.course.position > self._course.position:
            await self._save(session, stop=StopReason.INTERRUPTED)

    def _expect(
        self, call: ToolCall, fraction: float | None, remaining_seconds: float | None
    ) -> None:
        self._engine.expect(call.id, fraction, remaining_seconds)

    def _asks(self, call_id: str, for_human: bool) -> None:
        self._engine.asks(call_id, for_human)
