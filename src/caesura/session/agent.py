"""One server-run session: it generates, calls tools, waits, and can be steered meanwhile."""

import asyncio
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from logging import getLogger

from pydantic import JsonValue

from caesura.session.approvals import Approvals
from caesura.session.database import Statement
from caesura.session.dialogue import Dialogue, OutputReader, WrittenCall
from caesura.session.errors import ContextFull, SessionClosed, SessionError
from caesura.session.events import EventLog
from caesura.session.protocol import Delta, StopReason, TokenEngine
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
from caesura.session.store import Store
from caesura.tools.call import Answer, CallResult, Question, ToolCall
from caesura.tools.executor import Executor

logger = getLogger(__name__)

Report = tuple[EventType, Mapping[str, JsonValue]]


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
        self._definitions = workplace.executor.definitions(record.spec.tools)
        self._transcript = list(transcript)  # what is stored; the engine may be ahead
        self._pending: list[CallRecord] = []  # the model has not seen their results
        self._session: Session | None = None
        self._reader: OutputReader | None = None
        self._output_tokens = 0
        self._cached_tokens: int | None = None
        self._mail = True  # there may be messages from before a restart
        self._injected: deque[list[_UserMessage]] = deque()
        self._last_injected = 0
        self._stop: SessionEnding | None = None
        self._wake = asyncio.Event()

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
        """Pause the session for its user, or let it go on. A tool call that has begun is completed.

        Raises:
            SessionClosed: the session is over.
        """
        self._require_open()
        self.held = held
        await self.commit(
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
        if self._session is not None:
            await self._session.close()
        self._wake.set()

    def _require_open(self) -> None:
        if self.phase is Phase.ENDED or self._stop is not None:
            raise SessionClosed(f"session {self.id} is over")

    # What is kept for calls (`tools.CallJournal`)

    async def dispatching(self, call: ToolCall, attempt: int) -> None:
        """Write down that the call's tool is about to be run."""
        data: dict[str, JsonValue] = {"call_id": call.id, "attempt": attempt}
        await self.commit(
            self._work.store.dispatch_call(call.id, attempt), reports=[(EventType.DISPATCHED, data)]
        )

    async def ask(self, question: Question) -> Answer:
        """A human's answer; after a restart the question is the same, and still waits."""
        if await self._work.store.approval(question.key) is None:
            asked: dict[str, JsonValue] = {
                "approval_id": question.key,
                "call_id": question.call_id,
                "kind": question.kind,
                "text": question.text,
                "tool": question.tool,
                "arguments": dict(question.arguments),
            }
            await self.commit(
                self._work.store.add_approval(question), reports=[(EventType.ASKED, asked)]
            )
        answer = await self._work.approvals.wait(question)
        told: dict[str, JsonValue] = {
            "approval_id": question.key,
            "accepted": answer.accepted,
            "reason": answer.reason,
        }
        await self.commit(reports=[(EventType.ANSWERED, told)])
        return answer

    def progress(
        self,
        call: ToolCall,
        fraction: float | None,
        remaining_seconds: float | None,
        message: str | None,
    ) -> None:
        """Report how far a call is."""
        data: dict[str, JsonValue] = {
            "call_id": call.id,
            "fraction": fraction,
            "remaining_seconds": remaining_seconds,
            "message": message,
        }
        self.events.piece(EventType.PROGRESS, data)

    # The task

    async def run(self) -> None:
        """Go on until the session has ended. Cancelled, it stops where it is, as in a crash."""
        try:
            await self._go_on()
        except ContextFull as error:
            await self._end(SessionEnding.LIMIT, str(error))
        except SessionError as error:
            await self._end(SessionEnding.FAILED, str(error))
        except Exception as error:
            logger.exception("session %s failed", self.id)
            await self._end(SessionEnding.FAILED, f"internal error ({type(error).__name__})")
        finally:
            self.events.close()
            if self._session is not None:
                await self._session.close()

    async def _go_on(self) -> None:
        records = await self._work.store.calls(self.id)
        self._pending = [record for record in records if record.state is not CallState.DELIVERED]
        while self.phase is not Phase.ENDED:
            if self._stop is not None:
                await self._end(self._stop, None)
            elif self.held:
                await self._woken()
            elif self.phase is Phase.GENERATING:
                await self._generate()
            elif self.phase is Phase.CALLING:
                await self._call()
            else:
                await self._idle()

    async def _woken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    async def _idle(self) -> None:
        if await self._deliver():
            return
        if not self.spec.keep_open:
            await self._end(SessionEnding.COMPLETED, None)
        else:
            await self._woken()

    async def _end(self, ending: SessionEnding, error: str | None) -> None:
        self.phase, self.ending, self.error = Phase.ENDED, ending, error
        store = self._work.store
        unfinished = [r.call for r in self._pending if r.result is None]
        results = [self._work.executor.cancelled(call) for call in unfinished]
        await self.commit(
            *[store.finish_call(result) for result in results],
            *store.end_session(self.id, ending, error),
            reports=[
                *[(EventType.RESULT, _told(result)) for result in results],
                (EventType.ENDED, {"ending": ending, "error": error}),
            ],
        )

    # Generating

    async def _generate(self) -> None:
        """Generate until the session pauses."""
        if self.turns >= self.spec.max_turns:
            limit = f"the session has had its {self.spec.max_turns} turns (max_turns)"
            await self._end(SessionEnding.LIMIT, limit)
            return
        session = await self._engine_session()
        await self._start_output(session)
        async for delta in session:
            reader = self._take(delta)
            if delta.stop is not None:
                await self._output_over(session, delta.stop)
            elif not reader.inside_call and (self.held or self._stop is not None):
                await session.close()
            elif not reader.inside_call and self._mail:
                await self._inject(session)
        if self._reader is not None:  # stopped in the middle
            await self._keep_partial(session)

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

    async def _start_output(self, session: Session) -> None:
        self.turns += 1
        self._output_tokens, self._cached_tokens = 0, None
        self._reader = self._work.dialogue.reader(session.transcript, self._definitions)
        phase = self._work.store.set_phase(self.id, Phase.GENERATING, self.turns)
        await self.commit(
            phase, reports=[(EventType.PHASE, self._state())], pieces=2 * self.spec.max_tokens
        )

    def _take(self, delta: Delta) -> OutputReader:
        assert self._reader is not None
        self._output_tokens += len(delta.token_ids)
        if delta.cached_tokens is not None:
            self._cached_tokens = delta.cached_tokens
        part = self._reader.feed(delta.token_ids)
        for kind, text in ((EventType.REASONING, part.reasoning), (EventType.TEXT, part.text)):
            if text:
                self.events.piece(kind, {"turn": self.turns, "text": text})
        return self._reader

    async def _inject(self, session: Session) -> None:
        """Interrupt what is generated with the user's messages."""
        messages = [m for m in await self._messages() if m.number > self._last_injected]
        if not messages or session.state is not SessionState.GENERATING:
            return
        self._last_injected = messages[-1].number
        self._injected.append(messages)
        chat = [_user(message) for message in messages]
        await session.interrupt(self._work.dialogue.append(session.transcript, chat))

    async def _messages(self) -> list[_UserMessage]:
        self._mail = False
        stored = await self._work.store.messages(self.id)
        return [_UserMessage(number, text) for number, text in stored]

    async def _output_over(self, session: Session, stop: StopReason) -> None:
        """A turn has ended: by itself, or since messages of the user were injected."""
        goes_on = session.state is SessionState.GENERATING
        written, report = self._finish_output(stop)
        calls = [self._record(position, call) for position, call in enumerate(written)]
        self._pending += calls
        injected = self._injected.popleft() if goes_on and self._injected else []
        if not goes_on:
            self._reader = None
            self.phase = Phase.CALLING if self._pending else Phase.IDLE
        await self._advance(
            session.transcript[len(self._transcript) :],
            *[self._work.store.add_call(call) for call in calls],
            *self._delivered(injected),
            reports=[
                report,
                *[(EventType.CALL, _described(call)) for call in calls],
                *[(EventType.MESSAGE, _shown(message)) for message in injected],
            ],
        )
        if goes_on:
            await self._start_output(session)

    async def _keep_partial(self, session: Session) -> None:
        _, report = self._finish_output(StopReason.INTERRUPTED)
        self._reader = None
        self._injected.clear()  # not delivered: they wait in the inbox
        self._last_injected = 0
        self._mail = True
        await self._advance(session.transcript[len(self._transcript) :], reports=[report])

    def _finish_output(self, stop: StopReason) -> tuple[tuple[WrittenCall, ...], Report]:
        assert self._reader is not None
        output = self._reader.finish()
        self.events.output_complete()
        data: dict[str, JsonValue] = {
            "turn": self.turns,
            "text": output.text,
            "reasoning": output.reasoning,
            "stop": stop,
            "output_tokens": self._output_tokens,
            "cached_tokens": self._cached_tokens,
        }
        return output.calls, (EventType.OUTPUT, data)

    def _record(self, position: int, written: WrittenCall) -> CallRecord:
        call = ToolCall(f"call_{uuid.uuid4().hex}", written.name, written.arguments_text, self.id)
        return CallRecord(call, self.turns, position)

    # Calls

    async def _call(self) -> None:
        """Run the calls that have no result, and give all results to the model."""
        running = asyncio.ensure_future(self._run_pending())
        try:
            while not running.done() and self._stop is None:
                woken = asyncio.ensure_future(self._woken())
                await asyncio.wait((running, woken), return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
        finally:
            if not running.done():
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        if self._stop is None:
            running.result()
            while self.held and self._stop is None:
                await self._woken()
        if self._stop is None:
            await self._deliver()

    async def _run_pending(self) -> None:
        executor = self._work.executor
        calls = []
        for record in [record for record in self._pending if record.result is None]:
            repeated = record.state is CallState.DISPATCHED
            if repeated and not executor.is_idempotent(record.call.name):
                await self._finish(executor.interrupted(record.call))
            else:
                calls.append(record.call)
        async for result in executor.execute_all(calls, self):
            await self._finish(result)

    async def _finish(self, result: CallResult) -> None:
        await self.commit(
            self._work.store.finish_call(result), reports=[(EventType.RESULT, _told(result))]
        )
        self._pending = [
            replace(record, state=CallState.DONE, result=result)
            if record.call.id == result.call_id
            else record
            for record in self._pending
        ]

    async def _deliver(self) -> bool:
        """Append results and messages of the user, and resume; False if there are none."""
        results = [_tool_message(record) for record in self._pending]
        messages = await self._messages()
        if not results and not messages:
            return False
        chat = [*results, *[_user(message) for message in messages]]
        tokens = self._work.dialogue.append(self._transcript, chat)
        self._pending = []
        self.phase = Phase.GENERATING
        session = self._session
        await self._advance(
            tokens,
            self._work.store.deliver_results(self.id),
            *self._delivered(messages),
            reports=[(EventType.MESSAGE, _shown(message)) for message in messages],
        )
        if session is not None and session.state is SessionState.PAUSED:
            await session.resume(tokens)
        return True

    # Writing down

    async def commit(
        self, *changes: Statement, reports: Sequence[Report] = (), pieces: int = 0
    ) -> None:
        """Write changes and what is reported of them together; then report.

        Args:
            changes: what is written.
            reports: what is reported.
            pieces: events that will follow without being written.
        """
        claimed = self.events.claim(len(reports) + pieces)
        events = [self.events.prepare(kind, data) for kind, data in reports]
        written = [self._work.store.add_event(self.id, event) for event in events]
        if claimed is not None:
            written.append(self._work.store.claim_events(self.id, claimed))
        try:
            await self._work.store.commit(*changes, *written)
        except BaseException:
            for event in events:
                self.events.withdraw(event)
            raise
        for event in events:
            self.events.publish(event)

    async def _advance(
        self, token_ids: Sequence[int], *changes: Statement, reports: Sequence[Report] = ()
    ) -> None:
        """Write tokens, the phase and other changes."""
        store = self._work.store
        tokens = [store.add_tokens(self.id, len(self._transcript), token_ids)] if token_ids else []
        phase = store.set_phase(self.id, self.phase, self.turns)
        reported = [*reports, (EventType.PHASE, self._state())]
        await self.commit(*tokens, phase, *changes, reports=reported)
        self._transcript += token_ids
        self.active_seconds = store.clock()

    def _delivered(self, messages: Sequence[_UserMessage]) -> list[Statement]:
        if not messages:
            return []
        return [self._work.store.take_messages(self.id, messages[-1].number)]

    def _state(self) -> dict[str, JsonValue]:
        return {"phase": self.phase, "held": self.held, "turn": self.turns}


def _user(message: _UserMessage) -> Message:
    return {"role": "user", "content": message.text}


def _shown(message: _UserMessage) -> dict[str, JsonValue]:
    return {"role": "user", "content": message.text}


def _tool_message(record: CallRecord) -> Message:
    assert record.result is not None
    return {
        "role": "tool",
        "tool_call_id": record.call.id,
        "name": record.call.name,
        "content": record.result.content,
    }


def _described(record: CallRecord) -> dict[str, JsonValue]:
    call = record.call
    return {
        "call_id": call.id,
        "turn": record.turn,
        "name": call.name,
        "arguments": call.arguments_text,
    }


def _told(result: CallResult) -> dict[str, JsonValue]:
    return {
        "call_id": result.call_id,
        "name": result.name,
        "ending": result.ending,
        "content": result.content,
        "seconds": result.seconds,
        "attempts": result.attempts,
        "cached": result.cached,
        "cut": result.cut,
    }
