"""All server-run sessions: made, found, brought back after a restart, forgotten in time."""

import asyncio
import logging
import secrets
from collections.abc import Sequence

from pydantic import JsonValue

from caesura.session.agent import STORE_RETRY_SECONDS, Agent
from caesura.session.database import Check, Statement
from caesura.session.errors import (
    QuotaExceeded,
    RequestRepeated,
    StoreUnavailable,
    UnknownSession,
)
from caesura.session.kinds import agent_of, first_prompt
from caesura.session.limits import Limits
from caesura.session.protocol import require_room
from caesura.session.records import (
    ApprovalRecord,
    CallState,
    Event,
    EventType,
    Phase,
    SessionEnding,
    SessionRecord,
    SessionSpec,
)
from caesura.session.store import RequestKey
from caesura.session.workplace import Workplace
from caesura.tools.call import Answer

logger = logging.getLogger(__name__)


class Agents:
    """The sessions of all owners.

    Args:
        workplace: what they work with.
    """

    def __init__(self, workplace: Workplace) -> None:
        self._work = workplace
        self._running: dict[str, Agent] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leads = workplace.replicas is None
        self._unread: set[str] = set()

    async def start(self) -> None:
        """Bring back every session that had not ended, or join the servers that share them.

        One that cannot be read or brought back ends, and keeps no other from going on.
        """
        if self._work.replicas is not None:
            await self._work.replicas.begin()
            self._work.supervisor.start("replica", self._share_forever)
            self._work.supervisor.start("sweep", self._sweep_forever)
            return
        records = await self._work.store.open_sessions()
        await self._work.left_calls.start()  # before sessions that go on leave others
        for record in records:
            await self._bring_back(record)
        self._work.supervisor.start("sweep", self._sweep_forever)

    async def stop(self) -> None:
        """Stop all sessions where they are; `start` brings them back, or others take them."""
        await self._work.supervisor.stop("sweep")
        replicas = self._work.replicas
        if replicas is None:
            await self._stop_all()
            return
        await self._work.supervisor.stop("replica")
        await self._stop_all()
        if replicas.id:
            await replicas.leave()

    async def _stop_all(self) -> None:
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._work.left_calls.stop()
        self._running.clear()
        self._tasks.clear()
        self._unread.clear()

    async def create(
        self,
        owner: str,
        spec: SessionSpec,
        keys: Sequence[RequestKey] = (),
        session_id: str | None = None,
    ) -> Agent:
        """Make a session and let it run.

        Args:
            owner: its owner.
            spec: its settings.
            keys: names of the request. If it was carried out before, the session is the one that
                it has made, as it is by now.
            session_id: its id; a new one by default.

        Raises:
            RequestConflict: one of the keys is that of another request.
            DuplicateSession: there is a session of that id.
            QuotaExceeded: the owner has too much already.
            StoreUnavailable: nothing can be stored now.
            ContextFull: the messages leave no room to generate.
            ValueError: a tool is not configured, the model does not know the protocol, the chat
                template refuses the messages, or a setting is beyond the server's limits.
        """
        store = self._work.store
        if (made := await store.repeated(owner, keys)) is not None:
            return await self.agent(owner, made)
        try:
            return await self._create(owner, spec, keys, session_id)
        except (RequestRepeated, QuotaExceeded):  # the same request may have come first
            if (made := await store.repeated(owner, keys)) is not None:
                return await self.agent(owner, made)
            raise

    async def _create(
        self, owner: str, spec: SessionSpec, keys: Sequence[RequestKey], session_id: str | None
    ) -> Agent:
        work, limits = self._work, self._work.limits_of(owner)
        few = (
            work.store.require_few_open(owner, limits.open_sessions_per_owner),
            work.store.require_few_made(owner, limits.sessions_per_minute),
        )
        await work.store.require(*few)  # before much is done
        spec = limits.fitted(spec)
        try:
            definitions = work.executor.definitions(spec.tools)
        except KeyError as error:
            raise ValueError(work.executor.absence(str(error.args[0]))) from error
        spec = work.formats.settled(spec)
        longest = min(
            limits.max_tokens or work.dialogue.max_context_tokens, work.dialogue.max_context_tokens
        )
        spec = spec.settled(work.dialogue.sampling, longest)
        # In a thread: a long conversation takes a while to tokenise.
        token_ids = await asyncio.to_thread(first_prompt, spec, definitions, work)
        require_room(len(token_ids), work.dialogue.max_context_tokens)
        now = work.store.clock()
        session_id = session_id or f"sess_{secrets.token_hex(16)}"
        record = SessionRecord(
            session_id, owner, spec, Phase.GENERATING, False, 0, None, None, 2, now, now
        )
        created = Event(1, EventType.CREATED, {"metadata": dict(spec.metadata)}, now)
        await work.store.commit(
            *work.store.refuse_repeated(owner, keys),
            work.store.require_new(session_id),
            *few,
            work.store.add_session(record),
            work.store.add_tokens(session_id, 0, token_ids),
            work.store.add_event(session_id, created),
            *work.store.add_requests(owner, keys, session_id),
            *work.store.room(owner, limits.owner_bytes),
        )
        return self._run(record, token_ids)

    async def get(self, owner: str, session_id: str) -> SessionRecord:
        """One session of an owner.

        Raises:
            UnknownSession: the owner has no session of that id.
        """
        record = await self._work.store.session(session_id)
        if record is None or record.owner != owner:
            raise UnknownSession(f"there is no session {session_id}")
        return record

    async def agent(self, owner: str, session_id: str) -> Agent:
        """A session as it runs; one that has ended gives its past events and does nothing.

        Raises:
            UnknownSession: the owner has no session of that id.
        """
        running = self._running.get(session_id)
        if running is not None and running.owner == owner:
            return running
        record = await self.get(owner, session_id)
        running = self._running.get(session_id)
        if running is not None:
            return running
        agent = agent_of(record, await self._work.store.transcript(session_id), self._work)
        agent.events.close()
        return agent

    async def sessions(
        self, owner: str, before_seconds: float | None = None, limit: int = 100
    ) -> list[SessionRecord]:
        """An owner's sessions, the newest first."""
        return await self._work.store.sessions(owner, before_seconds=before_seconds, limit=limit)

    async def approval(self, owner: str, key: str) -> ApprovalRecord:
        """One question.

        Raises:
            UnknownSession: no session of the owner asks it.
        """
        record = await self._work.store.approval(key)
        if record is None or record.owner != owner:
            raise UnknownSession(f"there is no approval {key}")
        return record

    async def answer(
        self, owner: str, key: str, answer: Answer, keys: Sequence[RequestKey] = ()
    ) -> bool:
        """Answer a question; False if it does not wait any more.

        Args:
            owner: the owner of the session that asks.
            key: the question.
            answer: the answer.
            keys: names of the request. If it was carried out before, this is its answer again.

        Raises:
            UnknownSession: no session of the owner asks it.
            QuotaExceeded: the owner has too much already.
        """
        store = self._work.store
        asked = (await self.approval(owner, key)).question
        if await store.repeated(owner, keys) is not None:
            return True
        others: list[Statement | Check] = [
            *store.add_requests(owner, keys, asked.session_id),
            *store.room(owner, self._work.limits_of(owner).owner_bytes),
        ]
        first = store.refuse_repeated(owner, keys)
        try:
            return await self._work.approvals.answer(key, answer, first, others)
        except RequestRepeated:
            return await store.repeated(owner, keys) is not None

    @property
    def running(self) -> Sequence[Agent]:
        """Every session that has not ended."""
        return tuple(self._running.values())

    async def waiting_questions(self) -> dict[str, int]:
        """How many questions of each session wait for a human."""
        return await self._work.store.waiting_questions()

    def tool_names(self) -> list[str]:
        """The tools that sessions may call."""
        return self._work.executor.names()

    def limits_of(self, owner: str) -> Limits:
        """The limits of an owner."""
        return self._work.limits_of(owner)

    def clock(self) -> float:
        """Wall-clock seconds, as all that is stored has them."""
        return self._work.store.clock()

    # Tasks

    def _run(self, record: SessionRecord, transcript: Sequence[int]) -> Agent:
        agent = agent_of(record, transcript, self._work)
        self._running[record.id] = agent
        task = asyncio.create_task(self._live(agent), name=record.id)
        self._tasks[record.id] = task
        task.add_done_callback(lambda _: self._gone(record.id))
        return agent

    async def _live(self, agent: Agent) -> None:
        try:
            await agent.run()
        except Exception as error:  # an agent ends its session itself; its own end has failed
            logger.exception("session %s has died", agent.id)
            record = await self._work.store.session(agent.id)
            if record is not None and record.phase is not Phase.ENDED:
                message = f"internal error ({type(error).__name__})"
                await self._end(record, SessionEnding.FAILED, message)

    def _gone(self, session_id: str) -> None:
        self._running.pop(session_id, None)
        self._tasks.pop(session_id, None)

    async def _bring_back(self, record: SessionRecord) -> None:
        if record.spec.attached:
            await self._end(record, SessionEnding.CANCELLED, "the server was restarted")
            return
        try:
            self._run(record, await self._work.store.transcript(record.id))
        except KeyError as error:  # a tool was taken out of the configuration
            message = f"the tool {error.args[0]!r} is not configured any more"
            await self._end(record, SessionEnding.FAILED, message)
        except ValueError as error:  # another model is served, or other settings
            await self._end(record, SessionEnding.FAILED, str(error))
        except StoreUnavailable:
            if self._work.replicas is not None:
                raise
            logger.exception("session %s cannot be read; it waits for the next start", record.id)

    async def _end(self, record: SessionRecord, ending: SessionEnding, error: str) -> None:
        """End a session that does not run."""
        store = self._work.store
        data: dict[str, JsonValue] = {"ending": ending, "error": error}
        ended = Event(record.next_event, EventType.ENDED, data, store.clock())
        pending = await store.undelivered_calls(record.id)
        unfinished = [call.call for call in pending if call.state is not CallState.DONE]
        await store.commit(
            *[store.finish_call(self._work.executor.cancelled(call)) for call in unfinished],
            *store.end_session(record.id, ending, error),
            store.add_event(record.id, ended),
            store.claim_events(record.id, ended.number + 1),
        )

    # Limits

    async def sweep(self) -> None:
        """End sessions that were idle for too long, and forget those that ended long ago."""
        work, store = self._work, self._work.store
        now = store.clock()
        for agent in self.running:
            longest = work.limits_of(agent.owner).idle_seconds
            if agent.phase is Phase.IDLE and now - agent.active_seconds > longest:
                await agent.cancel(SessionEnding.EXPIRED)
        if not self._leads:  # one server does what follows
            return
        for owner, limits in work.owner_limits.items():
            await store.delete_ended(now - limits.retention_seconds, owner=owner)
        others = work.limits.retention_seconds
        await store.delete_ended(now - others, but_of=tuple(work.owner_limits))
        await store.commit(store.forget_requests(now))
        for owner, size_bytes in (await store.owners()).items():
            limits = work.limits_of(owner)
            await store.commit(store.forget_responses(owner, now - limits.retention_seconds))
            if size_bytes > limits.owner_bytes:
                await store.commit(
                    store.make_room(owner, limits.owner_bytes),
                    store.forget_conversations(owner, limits.owner_bytes),
                )

    # Servers that share the store

    async def _share_forever(self) -> None:
        """Keep this server's lease, and run what it takes."""
        replicas = self._work.replicas
        assert replicas is not None
        while True:
            try:
                seen = await replicas.round()
                if seen.is_lost:
                    logger.warning("this server was not heard of in time: its sessions are others'")
                    await self._stop_all()  # before it writes again
                    await replicas.begin()
                    continue
                self._leads = seen.leads
                for session_id in (*self._unread, *seen.taken):
                    await self._take(session_id)
                for session_id in seen.news:
                    if (agent := self._running.get(session_id)) is not None:
                        agent.look()
                        await self._work.approvals.look_again(session_id)
            except StoreUnavailable as error:
                logger.warning("%s", error)
                await asyncio.sleep(STORE_RETRY_SECONDS)

    async def _take(self, session_id: str) -> None:
        """Go on with a session that another server has left."""
        self._unread.add(session_id)
        if session_id not in self._running:
            try:
                record = await self._work.store.session(session_id)
            except ValueError:
                await self._work.store.end_unreadable(session_id)
                record = None
            if record is not None and record.phase is Phase.ENDED:
                await self._work.left_calls.start(session_id)
            elif record is not None:
                await self._bring_back(record)
        self._unread.discard(session_id)

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(self._work.limits.sweep_seconds)
            await self.sweep()
