"""One server-run session: it generates, calls tools, waits, and can be steered meanwhile."""

import asyncio
import sqlite3
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from logging import getLogger

from pydantic import JsonValue

from caesura.session.approvals import Approvals
from caesura.session.database import Statement
from caesura.session.dialogue import Dialogue, WrittenCall
from caesura.session.errors import ContextFull, EngineDead, SessionClosed, SessionError
from caesura.session.events import EventLog, Report
from caesura.session.journal import Journal
from caesura.session.protocol import StopReason, TokenEngine
from caesura.session.records import (
    CallRecord,
    CallState,
    EventType,
    Message,
    Phase,
    SessionEnding,
    SessionRecord,
)
from caesura.session.session import Session, SessionState
from caesura.session.shapes import (
    call_details,
    result_details,
    tool_message,
    user_message,
)
from caesura.session.store import Store
from caesura.session.turn import Turn
from caesura.tools.call import CallResult, ToolCall
from caesura.tools.executor import Executor

logger = getLogger(__name__)

STORE_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Workplace:
    """What all agents share.

    Attributes:
        engine: generates.
        dialogue: the model's chat format.
        executor: runs calls.
        store: what is written down.
        approvals: what waits for a human.
    """

    engine: TokenEngine
    dialogue: Dialogue
    executor: Executor
    store: Store
    approvals: Approvals


@dataclass(frozen=True, slots=True)
class _UserMessage:
    """A message that waits in the inbox, with its number there."""

    number: int
    text: str


class Agent:
    """A session that the server runs.

    One task (`run`) goes from phase to phase; all else leaves word and wakes it. Before a tool
    is run and before a result is used, both are on disk, so that after a crash the same task
    goes on from what is written.

    Args:
        record: the session as it is stored.
        transcript: its tokens as they are stored.
        workplace: what it works with.

    Attributes:
        id, owner, spec, phase, held, turns, ending, error: see `SessionRecord`.
        active_seconds: wall-clock time of its latest change of phase.
        events: what is reported of it.
    """

    def __init__(
        self, record: SessionRecord, transcript: Sequence[int], workplace: Workplace
    ) -> None:
        self.id, self.owner, self.spec = record.id, record.owner, record.spec
        self.phase, self.held, self.turns = record.phase, record.held, record.turns
        self.ending, self.error = record.ending, record.error
        self.active_seconds = record.updated_seconds
        self.events = EventLog(record.id, record.next_event, workplace.store)
        self._work = workplace
        self._journal = Journal(
            self.events, workplace.store, workplace.approvals, self._expect, self._released
        )
        over = record.phase is Phase.ENDED  # its tools may be gone
        self._definitions = [] if over else workplace.executor.definitions(record.spec.tools)
        self._transcript = list(transcript)  # what is stored; the engine may be ahead
        self._pending: list[CallRecord] = []  # the model has not seen their results
        self._session: Session | None = None
        self._begun = False  # the turn of number `turns` is to be gone on with
        self._mail = True  # there may be messages from before a restart
        self._injected: deque[list[_UserMessage]] = deque()
        self._last_injected = 0
        self._stop: SessionEnding | None = None
        self._closing = False  # nothing more is accepted
        self._wake = asyncio.Event()
        self._free = asyncio.Event()  # not held, or to be stopped
        if not self.held:
            self._free.set()
        self._expected: tuple[float | None, float | None] | None = None

    @property
    def transcript(self) -> tuple[int, ...]:
        """All tokens that are written down."""
        return tuple(self._transcript)

    # What others may do

    async def steer(self, text: str) -> None:
        """A message of the user: it interrupts what is generated, or waits for its place.

        Raises:
            SessionClosed: the session is over.
        """
        self._require_open()
        await self._work.store.commit(self._work.store.add_message(self.id, text))
        self._mail = True
        self._wake.set()

    async def hold(self, held: bool) -> None:
        """Pause the session for its user, or let it go on. What has begun is completed: the
        writing of a tool call, and the tool's run.

        Raises:
            SessionClosed: the session is over.
        """
        self._require_open()
        self.held = held
        if held:
            self._free.clear()
        else:
            self._free.set()
        await self.events.commit(
            self._work.store.set_held(self.id, held), reports=[(EventType.PHASE, self._state())]
        )
        self._wake.set()

    async def cancel(self, ending: SessionEnding = SessionEnding.CANCELLED) -> None:
        """End the session, whatever it does.

        Raises:
            SessionClosed: it is over already.
        """
        self._require_open()
        self._stop = ending
        self._free.set()
        if self._session is not None:
            await self._session.close()
        self._wake.set()

    def _require_open(self) -> None:
        if self.phase is Phase.ENDED or self._stop is not None or self._closing:
            raise SessionClosed(f"session {self.id} is over")

    # The task

    async def run(self) -> None:
        """Go on until the session has ended. Cancelled, it stops where it is, as in a crash."""
        try:
            while True:
                try:
                    await self._go_on_or_end()
                    break
                except sqlite3.Error:
                    logger.exception("the store failed; session %s goes on from it", self.id)
                    await self._reload()
        except EngineDead:
            logger.error("the engine is gone; session %s goes on after a restart", self.id)
        finally:
            self.events.close()
            if self._session is not None:
                await self._session.close()

    async def _go_on_or_end(self) -> None:
        try:
            await self._go_on()
        except ContextFull as error:
            await self._end(SessionEnding.LIMIT, str(error))
        except (EngineDead, sqlite3.Error):
            raise
        except SessionError as error:
            await self._end(SessionEnding.FAILED, str(error))
        except Exception as error:
            logger.exception("session %s failed", self.id)
            await self._end(SessionEnding.FAILED, f"internal error ({type(error).__name__})")

    async def _reload(self) -> None:
        """Go back to what is stored, as soon as that can be read."""
        if self._session is not None:
            await self._session.close()
        while True:
            await asyncio.sleep(STORE_RETRY_SECONDS)
            try:
                record = await self._work.store.session(self.id)
                self._transcript = await self._work.store.transcript(self.id)
                break
            except sqlite3.Error:
                logger.warning("the store still fails; session %s waits", self.id)
        assert record is not None
        self.phase, self.turns = record.phase, record.turns
        self._forget_injected()

    async def _go_on(self) -> None:
        self._pending = await self._work.store.undelivered_calls(self.id, with_results=True)
        if self.phase is Phase.GENERATING and self.turns:
            await self._look_for_begun_turn()
        while self.phase is not Phase.ENDED:
            if self._stop is not None:
                await self._end(self._stop, None)
            elif self.held:
                await self._released()
            elif self.phase is Phase.GENERATING:
                await self._generate()
            elif self.phase is Phase.CALLING:
                await self._call()
            else:
                await self._idle()

    async def _woken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    async def _look_for_begun_turn(self) -> None:
        """A turn that was cut off has the same number when it is generated again, or further."""
        last = await self._work.store.last_event(self.id, EventType.OUTPUT)
        lost = last is None or last.data["turn"] != self.turns
        self._begun = lost or (last is not None and last.data["stop"] == StopReason.INTERRUPTED)
        if lost:
            await self.events.commit(reports=[(EventType.RESTARTED, {"turn": self.turns})])

    async def _released(self) -> None:
        await self._free.wait()

    async def _idle(self) -> None:
        self._closing = not self.spec.keep_open
        if await self._deliver():
            self._closing = False
        elif self._closing:
            await self._end(SessionEnding.COMPLETED, None)
        else:
            await self._woken()

    async def _end(self, ending: SessionEnding, error: str | None) -> None:
        self.phase, self.ending, self.error = Phase.ENDED, ending, error
        store = self._work.store
        unfinished = [r.call for r in self._pending if r.result is None]
        results = [self._work.executor.cancelled(call) for call in unfinished]
        await self.events.commit(
            *[store.finish_call(result) for result in results],
            *store.end_session(self.id, ending, error),
            reports=[
                *[(EventType.RESULT, result_details(result)) for result in results],
                (EventType.ENDED, {"ending": ending, "error": error}),
            ],
        )

    # Generating

    async def _generate(self) -> None:
        """Generate until the session pauses."""
        if not self._begun and self.turns >= self.spec.max_turns:
            limit = f"the session has had its {self.spec.max_turns} turns (max_turns)"
            await self._end(SessionEnding.LIMIT, limit)
            return
        session = await self._engine_session()
        turn = await self._start_turn(session)
        async for delta in session:
            turn.take(delta)
            if delta.stop is not None:
                await self._turn_over(session, turn, delta.stop)
                if session.state is SessionState.GENERATING:
                    turn = await self._start_turn(session)
            elif not turn.inside_call and (self.held or self._stop is not None):
                await session.close()
            elif not turn.inside_call and self._mail:
                await self._inject(session)
        if self.phase is Phase.GENERATING:  # stopped in the middle
            await self._keep_partial(session, turn)

    async def _engine_session(self) -> Session:
        """The session in the engine, generating: resumed already, or opened anew."""
        session = self._session
        if session is None or session.state is SessionState.CLOSED:
            sampling = self.spec.sampling()
            session = await Session.open(
                self._work.engine, self._transcript, sampling, session_id=self.id
            )
            self._session = session
        return session

    async def _start_turn(self, session: Session) -> Turn:
        if not self._begun:
            self.turns += 1
        self._begun = False
        reader = self._work.dialogue.reader(session.transcript, self._definitions)
        phase = self._work.store.set_phase(self.id, Phase.GENERATING, self.turns)
        await self.events.commit(
            phase, reports=[(EventType.PHASE, self._state())], pieces=2 * self.spec.max_tokens
        )
        return Turn(self.turns, reader, self.events)

    async def _inject(self, session: Session) -> None:
        """Interrupt what is generated with the user's messages."""
        messages = [m for m in await self._messages() if m.number > self._last_injected]
        if not messages or session.state is not SessionState.GENERATING:
            return
        self._last_injected = messages[-1].number
        self._injected.append(messages)
        chat = [user_message(message.text) for message in messages]
        await session.interrupt(await self._rendered(session.transcript, chat))

    async def _rendered(self, transcript: Sequence[int], chat: Sequence[Message]) -> list[int]:
        """Tokens of messages after a transcript; in a thread, since results may be long."""
        return await asyncio.to_thread(self._work.dialogue.append, transcript, chat)

    def _forget_injected(self) -> None:
        """What was not delivered waits in the inbox."""
        self._injected.clear()
        self._last_injected = 0
        self._mail = True

    async def _messages(self) -> list[_UserMessage]:
        self._mail = False
        stored = await self._work.store.messages(self.id)
        return [_UserMessage(number, text) for number, text in stored]

    async def _turn_over(self, session: Session, turn: Turn, stop: StopReason) -> None:
        """A turn has ended: by itself, or since messages of the user were injected."""
        goes_on = session.state is SessionState.GENERATING
        injected = self._injected.popleft() if goes_on and self._injected else []
        written, report = turn.finish(stop)
        calls = self._records(written)
        if not goes_on:
            self.phase = Phase.CALLING if self._pending else Phase.IDLE
        await self._save_output(session, calls, report, injected)

    async def _keep_partial(self, session: Session, turn: Turn) -> None:
        written, report = turn.finish(StopReason.INTERRUPTED)
        calls = self._records(written)
        self._begun = True
        self._forget_injected()
        await self._save_output(session, calls, report)

    async def _save_output(
        self,
        session: Session,
        calls: Sequence[CallRecord],
        report: Report,
        injected: Sequence[_UserMessage] = (),
    ) -> None:
        """Write what was generated, its calls, and the messages that took their place behind it."""
        await self._advance(
            session.transcript[len(self._transcript) :],
            *[self._work.store.add_call(call) for call in calls],
            *self._delivered(injected),
            reports=[
                report,
                *[(EventType.CALL, call_details(call)) for call in calls],
                *[(EventType.MESSAGE, user_message(message.text)) for message in injected],
            ],
        )

    def _records(self, written: Sequence[WrittenCall]) -> list[CallRecord]:
        """The calls of a turn, which are pending from now on."""
        first = sum(record.turn == self.turns for record in self._pending)
        calls = []
        for position, (name, arguments) in enumerate(map(astuple, written), start=first):
            call = ToolCall(f"call_{uuid.uuid4().hex}", name, arguments, self.id)
            calls.append(CallRecord(call, self.turns, position))
        self._pending += calls
        return calls

    # Calls

    async def _call(self) -> None:
        """Run the calls that have no result, and give all results to the model."""
        running = asyncio.ensure_future(self._run_pending())
        try:
            while not running.done() and self._stop is None:
                woken = asyncio.ensure_future(self._woken())
                try:
                    await asyncio.wait((running, woken), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    woken.cancel()
                await self._report_progress()
        finally:
            if not running.done():
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        if self._stop is None:
            running.result()
            await self._released()
        if self._stop is None:
            await self._deliver()

    def _expect(self, fraction: float | None, remaining_seconds: float | None) -> None:
        self._expected = fraction, remaining_seconds
        self._wake.set()

    async def _report_progress(self) -> None:
        """Tell the engine how far the call is that the session waits for, if it is only one."""
        expected, self._expected = self._expected, None
        if expected is None or self._session is None:
            return
        fraction, remaining_seconds = expected
        unfinished = [record for record in self._pending if record.result is None]
        if len(unfinished) == 1 and self._session.state is SessionState.PAUSED:
            if remaining_seconds is not None:
                await self._session.progress(remaining_seconds=remaining_seconds)
            elif fraction is not None:
                await self._session.progress(fraction=fraction)

    async def _run_pending(self) -> None:
        executor = self._work.executor
        calls = []
        for record in [record for record in self._pending if record.result is None]:
            repeated = record.state is CallState.DISPATCHED
            offered = self.spec.tools
            if offered is not None and record.call.name not in offered:
                await self._finish(executor.unknown(record.call, offered))
            elif repeated and not executor.is_idempotent(record.call.name):
                await self._finish(executor.interrupted(record.call))
            else:
                calls.append(record.call)
        async for result in executor.execute_all(calls, self._journal):
            await self._finish(result)

    async def _finish(self, result: CallResult) -> None:
        await self.events.commit(
            self._work.store.finish_call(result),
            self._work.store.withdraw_questions(result.call_id),
            reports=[(EventType.RESULT, result_details(result))],
        )
        self._pending = [
            replace(record, state=CallState.DONE, result=result)
            if record.call.id == result.call_id
            else record
            for record in self._pending
        ]

    async def _deliver(self) -> bool:
        """Append results and messages of the user, and resume; False if there are none."""
        results = [tool_message(record) for record in self._pending]
        messages = await self._messages()
        if not results and not messages:
            return False
        chat = [*results, *[user_message(message.text) for message in messages]]
        tokens = await self._rendered(self._transcript, chat)
        self._pending = []
        self.phase = Phase.GENERATING
        session = self._session
        await self._advance(
            tokens,
            self._work.store.deliver_results(self.id),
            *self._delivered(messages),
            reports=[(EventType.MESSAGE, user_message(message.text)) for message in messages],
        )
        if session is not None and session.state is SessionState.PAUSED:
            await session.resume(tokens)
        return True

    # Writing down

    async def _advance(
        self, token_ids: Sequence[int], *changes: Statement, reports: Sequence[Report] = ()
    ) -> None:
        """Write tokens, the phase and other changes."""
        store = self._work.store
        tokens = [store.add_tokens(self.id, len(self._transcript), token_ids)] if token_ids else []
        phase = store.set_phase(self.id, self.phase, self.turns)
        reported = [*reports, (EventType.PHASE, self._state())]
        await self.events.commit(*tokens, phase, *changes, reports=reported)
        self._transcript += token_ids
        self.active_seconds = store.clock()

    def _delivered(self, messages: Sequence[_UserMessage]) -> list[Statement]:
        if not messages:
            return []
        return [self._work.store.take_messages(self.id, messages[-1].number)]

    def _state(self) -> dict[str, JsonValue]:
        return {"phase": self.phase, "held": self.held, "turn": self.turns}
