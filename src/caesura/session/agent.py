"""One server-run session: its life, whatever way it generates and calls tools."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from logging import getLogger

from pydantic import JsonValue

from caesura.cml import AtEnd
from caesura.session.database import Statement
from caesura.session.errors import (
    ContextFull,
    EngineDead,
    QuotaExceeded,
    SessionClosed,
    SessionError,
    StoreUnavailable,
)
from caesura.session.events import EventLog, Report
from caesura.session.inbox import Inbox
from caesura.session.journal import Journal
from caesura.session.pending_calls import PendingCalls
from caesura.session.records import CallRecord, EventType, Phase, SessionEnding, SessionRecord
from caesura.session.shapes import result_details
from caesura.session.store import RequestKey
from caesura.session.workplace import Workplace
from caesura.tools.call import ToolCall

logger = getLogger(__name__)

STORE_RETRY_SECONDS = 1.0
_OUTLIVED = frozenset({SessionEnding.COMPLETED, SessionEnding.LIMIT, SessionEnding.EXPIRED})


class Agent(ABC):
    """A session that the server runs.

    One task (`run`) goes from phase to phase; all else leaves word and wakes it. Before a tool
    is run and before a result is used, both are on disk, so that after a crash the same task
    goes on from what is written. How a session generates and calls is left to its kinds.

    Args:
        record: the session as it is stored.
        transcript: its tokens as they are stored.
        workplace: what it works with.

    Attributes:
        id, owner, spec, phase, held, turns, ending, error: see `SessionRecord`.
        active_seconds: wall-clock time of its latest change of phase.
        events: what is reported of it.

    Raises:
        KeyError: one of its tools is not configured any more.
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
        over = record.phase is Phase.ENDED  # its tools may be gone
        self._definitions = (
            [] if over else workplace.executor.definitions(record.spec.tools, awaited=True)
        )
        self._transcript = list(transcript)  # what is stored; the engine may be ahead
        self._inbox = Inbox(record.id, workplace.store)
        self._stop: SessionEnding | None = None
        self._closing = False  # nothing more is accepted
        self._wake = asyncio.Event()
        self._free = asyncio.Event()  # not held, or to be stopped
        if not self.held:
            self._free.set()
        journal = Journal(
            self.events,
            workplace.store,
            workplace.approvals,
            self._expect,
            self._asks,
            self._released,
            record.owner,
        )
        self._calls = PendingCalls(
            record.id,
            record.spec.tools,
            workplace.executor,
            workplace.store,
            self.events,
            journal,
            self._wake.set,
            workplace.limits_of(record.owner).calls_per_turn,
        )

    @property
    def transcript(self) -> tuple[int, ...]:
        """All tokens that are written down."""
        return tuple(self._transcript)

    # What others may do

    async def steer(self, text: str, keys: Sequence[RequestKey] = ()) -> None:
        """A message of the user: it interrupts what is generated, or waits for its place.

        Args:
            text: the message.
            keys: names of the request.

        Raises:
            SessionClosed: the session is over.
            QuotaExceeded: too many wait, or the owner has too much already.
            RequestRepeated: the request was carried out before.
        """
        self._require_open()
        store, limits = self._work.store, self._work.limits_of(self.owner)
        await store.commit(
            *store.refuse_repeated(self.owner, keys),
            store.require_few_waiting(self.id, limits.waiting_messages),
            store.add_message(self.id, text),
            *store.add_requests(self.owner, keys, self.id),
            *store.room(self.owner, limits.owner_bytes),
        )
        self._inbox.has_news = True
        self._wake.set()

    def look(self) -> None:
        """Something has come for the session, by another server."""
        self._inbox.has_news = True
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
        await self._close_engine()
        self._wake.set()

    def _require_open(self) -> None:
        if self.phase is Phase.ENDED or self._stop is not None or self._closing:
            raise SessionClosed(f"session {self.id} is over")

    # How it generates and calls

    @abstractmethod
    async def _restore(self) -> None:
        """Go on from what is stored: the calls are loaded already."""

    @abstractmethod
    async def _generate(self) -> None:
        """Generate until the phase changes, or the session is held or to be stopped."""

    @abstractmethod
    async def _call(self) -> None:
        """Wait for calls until the phase changes, or the session is held or to be stopped."""

    @abstractmethod
    async def _deliver(self) -> bool:
        """Append what waits for the model, so that it generates; False if there is nothing."""

    @abstractmethod
    def _expect(
        self, call: ToolCall, fraction: float | None, remaining_seconds: float | None
    ) -> None:
        """A call is so far: the share that is done, or the time that is left."""

    @abstractmethod
    def _asks(self, call_id: str, for_human: bool) -> None:
        """A call waits for a human now, or no longer."""

    @abstractmethod
    async def _close_engine(self) -> None:
        """Let go of the session in the engine, if there is one."""

    # The task

    async def run(self) -> None:
        """Go on until the session has ended. Cancelled, it stops where it is, as in a crash."""
        try:
            while True:
                try:
                    await self._go_on_or_end()
                    break
                except StoreUnavailable:
                    logger.exception("the store failed; session %s goes on from it", self.id)
                    await self._reload()
        except EngineDead:
            logger.error("the engine is gone; session %s goes on after a restart", self.id)
        finally:
            await self._calls.stop()
            self.events.close()
            await self._close_engine()

    async def _go_on_or_end(self) -> None:
        try:
            await self._go_on()
        except (ContextFull, QuotaExceeded) as error:
            await self._end(SessionEnding.LIMIT, str(error))
        except (EngineDead, StoreUnavailable):
            raise
        except SessionError as error:
            await self._end(SessionEnding.FAILED, str(error))
        except Exception as error:
            logger.exception("session %s failed", self.id)
            await self._end(SessionEnding.FAILED, f"internal error ({type(error).__name__})")

    async def _reload(self) -> None:
        """Go back to what is stored, as soon as that can be read."""
        await self._calls.stop()
        await self._close_engine()
        while True:
            await asyncio.sleep(STORE_RETRY_SECONDS)
            try:
                record = await self._work.store.session(self.id)
                self._transcript = await self._work.store.transcript(self.id)
                break
            except StoreUnavailable:
                logger.warning("the store still fails; session %s waits", self.id)
        assert record is not None
        self.phase, self.turns = record.phase, record.turns
        self._inbox.recall()

    async def _go_on(self) -> None:
        await self._calls.load()
        await self._restore()
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
        """Until something has happened to the session.

        Raises:
            StoreUnavailable: a result of a call could not be written.
        """
        await self._wake.wait()
        self._wake.clear()
        self._calls.check()

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
        outliving = self._outliving(ending)
        await self._calls.stop(but=outliving)
        self.phase, self.ending, self.error = Phase.ENDED, ending, error
        store = self._work.store
        results = self._calls.cancelled(but=outliving)
        await self.events.commit(
            *[store.finish_call(result) for result in results],
            *store.end_session(self.id, ending, error),
            reports=[
                *[(EventType.RESULT, result_details(result)) for result in results],
                (EventType.ENDED, {"ending": ending, "error": error}),
            ],
        )
        self.events.close()
        self._free.set()
        self._work.left_calls.take(self._calls.release(outliving))

    def _is_waited_for(self, record: CallRecord) -> bool:
        """Whether the model is to read the result, although it has ended its answer."""
        if record.result is not None:
            return True
        if self.spec.at_end is not None:
            return self.spec.at_end is AtEnd.WAIT
        return self._work.executor.at_end(record.call.name) == "wait"

    async def _leave(self) -> None:
        """The model has ended its answer, and will not read what is pending."""
        arrived = self._calls.finished
        self._calls.unread |= {record.call.id for record in self._calls.records}
        if arrived:
            delivered = [self._work.store.deliver_call(record.call.id) for record in arrived]
            await self.events.commit(*delivered)
            self._calls.remove(arrived)
        for record in self._calls.unfinished:
            name = record.call.name
            if record.label is not None and self._work.executor.at_end(name) != "finish":
                await self._calls.cancel(record)

    def _outliving(self, ending: SessionEnding) -> set[str]:
        """Ids of calls that go on after such an end; the others are cancelled."""
        return set(self._calls.unread) if ending in _OUTLIVED else set()

    async def _require_room(self) -> None:
        """Before more is generated: see that what its owner keeps is within the limit.

        Raises:
            QuotaExceeded: it is not, although none of the owner's ended sessions is left.
        """
        store, limit_bytes = self._work.store, self._work.limits_of(self.owner).owner_bytes
        if await store.owner_bytes(self.owner) > limit_bytes:
            await store.commit(*store.room(self.owner, limit_bytes))

    # Writing down

    async def _advance(
        self,
        token_ids: Sequence[int],
        *changes: Statement,
        reports: Sequence[Report] = (),
        pieces: int = 0,
    ) -> None:
        """Write tokens, the phase and other changes, and make room for pieces to follow."""
        store = self._work.store
        tokens = [store.add_tokens(self.id, len(self._transcript), token_ids)] if token_ids else []
        phase = store.set_phase(self.id, self.phase, self.turns)
        await self.events.commit(*tokens, phase, *changes, reports=reports, pieces=pieces)
        self._transcript += token_ids
        self.active_seconds = store.clock()

    def _state(self) -> dict[str, JsonValue]:
        return {"phase": self.phase, "held": self.held, "turn": self.turns}

    def _phase_report(self) -> Report:
        return EventType.PHASE, self._state()
