"""What the routes of sessions work with."""

import asyncio
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from caesura.server.bodies import BodyLimits
from caesura.server.errors import ApiError
from caesura.server.sessions.returning import Returning
from caesura.server.sessions.streams import OpenStreams
from caesura.server.settings import ServerSection
from caesura.session.agent import Agent
from caesura.session.agents import Agents
from caesura.session.errors import RequestRepeated, SessionClosed
from caesura.session.events import EventLog
from caesura.session.limits import Limits
from caesura.session.records import Phase, SessionRecord, SessionSpec
from caesura.session.store import RequestKey, Store
from caesura.tools.executor import Executor

# Longer than any session needs to stop; a client is not kept waiting if one does not.
_ENDING_SECONDS = 10.0
MOST_CHARACTERS_PER_TOKEN = 16
"""Of text that could fit the context; usual are 3 to 5."""
_LONGEST_MESSAGE = 400  # of an error that repeats what a client has sent
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
        adapters: names of its adapters, as they are loaded now.
        database: the store, for people; without passwords.
        streams: of events, that clients read now.
        context_tokens: the model's longest context; None for any.
        default_tools: of sessions that do not say which they want; None for all.
        returning: runs whose clients may come again.
    """

    agents: Agents
    store: Store
    executor: Executor
    settings: ServerSection
    models: tuple[str, ...]
    database: str
    streams: OpenStreams = field(default_factory=lambda: OpenStreams(lambda _: Limits()))
    context_tokens: int | None = None
    default_tools: list[str] | None = None
    returning: Returning = field(default_factory=Returning)
    adapters: Callable[[], Collection[str]] = tuple

    @property
    def body_limits(self) -> BodyLimits:
        """What a request's body may hold."""
        context = self.context_tokens
        most = None if context is None else context * MOST_CHARACTERS_PER_TOKEN
        return BodyLimits(self.settings.body_limit, most)

    def served_model(self, model: str | None) -> str:
        """The name of the model, or of an adapter of it.

        Raises:
            ApiError: another model is asked for.
        """
        if model is None:
            return self.models[0]
        if model not in self.models and model not in self.adapters():
            raise ApiError(
                404,
                f"the model {model!r} is not served here; sessions use {self.models[0]!r}",
                param="model",
                code="model_not_found",
            )
        return model

    async def create(
        self,
        owner: str,
        spec: SessionSpec,
        keys: Sequence[RequestKey] = (),
        session_id: str | None = None,
        tools_field: str = "tools",
    ) -> Agent:
        """Make a session, or find the one that the same request has made; see `Agents.create`.

        Args:
            owner: its owner.
            spec: its settings.
            keys: see there.
            session_id: see there.
            tools_field: the field of the request that names its tools.

        Raises:
            ApiError: a tool is not configured, there is no such model or adapter, or the chat
                template refuses the messages.
            SessionError: there is no room for it.
        """
        self.served_model(spec.model)
        if spec.model in self.models:  # what remains is an adapter's name
            spec = spec.model_copy(update={"model": None})
        try:
            return await self.agents.create(owner, spec, keys, session_id)
        except ValueError as error:
            unknown = set(spec.tools or ()) - set(self.executor.names())
            message = textwrap.shorten(str(error), _LONGEST_MESSAGE, placeholder="...")
            raise ApiError(400, message, param=tools_field if unknown else None) from error

    async def steer(
        self, owner: str, session_id: str, text: str, keys: Sequence[RequestKey]
    ) -> None:
        """Say something in a session; once if the same request comes again.

        Raises:
            UnknownSession: the owner has no session of that id.
            SessionClosed: it is over.
            QuotaExceeded: too many messages wait, or the owner has too much already.
            RequestConflict: one of the keys is that of another request.
        """
        if await self.store.repeated(owner, keys) is None:
            agent = await self.open_agent(owner, session_id)
            try:
                await agent.steer(text, keys)
            except RequestRepeated:
                await self.store.repeated(owner, keys)

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

    async def own_agent(self, owner: str, session_id: str) -> Agent:
        """The same, run by this server.

        Raises:
            UnknownSession: the owner has no session of that id.
            SessionClosed: it is over.
            StoreUnavailable: no server runs it at the moment.
        """
        await self.open_agent(owner, session_id)
        return await self.agents.own_agent(owner, session_id)

    async def cancel(self, owner: str, session_id: str) -> None:
        """End a session, and wait until it has ended.

        Raises:
            UnknownSession: the owner has no session of that id.
            SessionClosed: it is over.
        """
        agent = await self.own_agent(owner, session_id)
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


STOPPING = Unavailable("it is stopping")


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
