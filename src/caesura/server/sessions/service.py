"""What the routes of sessions work with."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from caesura.server.errors import ApiError
from caesura.server.settings import ServerSection
from caesura.session.agent import Agent
from caesura.session.agents import Agents
from caesura.session.errors import SessionClosed
from caesura.session.events import EventLog
from caesura.session.records import Phase, SessionRecord, SessionSpec
from caesura.session.store import Store
from caesura.tools.executor import Executor

# Longer than any session needs to stop; a client is not kept waiting if one does not.
_ENDING_SECONDS = 10.0
_NO_EVENT = 2**63 - 1  # no event has a higher number


@dataclass(frozen=True, slots=True)
class Service:
    """Sessions as the routes see them; in `app.state.caesura`.

    Attributes:
        agents: the sessions.
        store: where they are written.
        executor: has the tools.
        settings: of the HTTP side.
        models: names under which the model is served.
        database: the file of the store.
    """

    agents: Agents
    store: Store
    executor: Executor
    settings: ServerSection
    models: tuple[str, ...]
    database: Path

    def health(self) -> list[str]:
        """What does not work and should; empty if all is well."""
        problem = self.store.problem()
        return [*([] if problem is None else [problem]), *self.agents.problems()]

    async def create(self, owner: str, spec: SessionSpec, tools_field: str = "tools") -> Agent:
        """Make a session.

        Args:
            owner: whose it is.
            spec: what it is made with.
            tools_field: the field of the request that names its tools.

        Raises:
            ApiError: a tool is not configured, or the chat template refuses the messages.
            SessionError: there is no room for it.
        """
        for name in spec.tools or ():
            if name not in self.executor.names():
                raise ApiError(400, f"there is no tool {name[:64]!a}", param=tools_field)
        try:
            return await self.agents.create(owner, spec)
        except ValueError as error:
            raise ApiError(400, str(error)) from error

    async def open_agent(self, owner: str, session_id: str) -> Agent:
        """A session that can still be changed.

        Raises:
            UnknownSession: the owner has no session of that id.
            SessionClosed: it is over.
        """
        record = await self.agents.get(owner, session_id)
        if record.phase is Phase.ENDED:
            raise SessionClosed(f"session {session_id} is over")
        return await self.agents.agent(owner, session_id)

    async def cancel(self, owner: str, session_id: str) -> None:
        """End a session, and wait until it has ended.

        Raises:
            UnknownSession: the owner has no session of that id.
            SessionClosed: it is over.
        """
        agent = await self.open_agent(owner, session_id)
        await agent.cancel()
        async with asyncio.timeout(_ENDING_SECONDS):
            async for _ in agent.events.follow(_NO_EVENT):
                pass

    async def event_log(self, record: SessionRecord) -> EventLog:
        """The events of a session, over or not."""
        if record.phase is not Phase.ENDED:
            return (await self.agents.agent(record.owner, record.id)).events
        log = EventLog(record.id, record.next_event, self.store)
        log.close()
        return log


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Stands in `app.state.caesura` where the server runs no sessions.

    Attributes:
        reason: why, and what to do.
    """

    reason: str


def service_of(request: Request) -> Service:
    """What serves a request.

    Raises:
        ApiError: the server runs no sessions.
    """
    service: Service | Unavailable | None = getattr(request.app.state, "caesura", None)
    if isinstance(service, Service):
        return service
    reason = service.reason if service is not None else "the server is starting"
    raise ApiError(503, f"this server runs no sessions: {reason}", code="no_sessions")


ServiceOf = Annotated[Service, Depends(service_of)]
