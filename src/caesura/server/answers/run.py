"""A request of OpenAI's routes, answered by a session."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse, Response

from caesura.server.answers.chat_run import Json
from caesura.server.answers.run_reader import RunReader, Step
from caesura.server.errors import ApiError, error_response
from caesura.server.sessions.event_stream import EventStreamResponse
from caesura.server.sessions.retries import idempotency_key_of, request_digest, request_keys
from caesura.server.sessions.returning import Asked, Returning, retries_of
from caesura.server.sessions.service import Service
from caesura.session.agent import Agent
from caesura.session.errors import SessionClosed
from caesura.session.records import SessionSpec
from caesura.session.store import RequestKey

CLIENT_IS_GONE = 499


class Run:
    """A session that answers one request.

    Args:
        service: has the sessions.
        agent: the session.
        kept: it goes on when its client leaves.
        returning: knows the run, since its client may come again by itself; None for others.
    """

    def __init__(
        self, service: Service, agent: Agent, *, kept: bool, returning: Returning | None = None
    ) -> None:
        self.agent = agent
        self._service = service
        self._kept = kept
        self._returning = None if kept else returning
        self._reader = RunReader()
        if self._returning is not None:
            self._returning.reads(agent)

    @classmethod
    async def begin(
        cls, request: Request, service: Service, owner: str, spec: SessionSpec, *, kept: bool
    ) -> "Run":
        """Make the session, or find the one that the same request has made.

        A request with an `Idempotency-Key` is kept: its client may come again for the answer. One
        without, of a client that says how often it has sent it, is looked for by what it asks for.

        Raises:
            ApiError: a tool is not configured, the chat template refuses the messages, or the
                key is none.
            SessionError: there is no room for it, or another request has had the key.
        """
        key, retries = idempotency_key_of(request), retries_of(request)
        kept = kept or key is not None
        spec = spec.model_copy(update={"attached": not kept})
        path = request.url.path

        async def create(keys: Sequence[RequestKey], session_id: str | None = None) -> Agent:
            return await service.create(owner, spec, keys, session_id, tools_field="caesura.tools")

        if key is not None or retries is None:
            return cls(service, await create(request_keys(path, spec, key)), kept=kept)
        returning = service.returning
        asked = Asked(owner, request_digest(path, spec))
        agent = None
        if retries:
            agent = await returning.found(asked, service.agents, service.store)
        agent = agent or await returning.made(asked, create)
        return cls(service, agent, kept=kept, returning=returning)

    async def steps(self) -> AsyncGenerator[Step, None]:
        """What the session does, until it has ended or the server stops."""
        async for event in self.agent.events.follow():
            for step in self._reader.read(event):
                yield step

    def usage(self, form: Callable[[int, int], Json]) -> Json:
        """Tokens so far, as a route writes them."""
        output_tokens = self._reader.output_tokens
        return form(len(self.agent.transcript) - output_tokens, output_tokens)

    async def left(self) -> None:
        """The client is gone, or has got everything."""
        if self._returning is not None:
            await self._returning.left(self.agent)
        elif not self._kept:
            with suppress(SessionClosed):
                await self.agent.cancel()

    def stream(self, pieces: AsyncGenerator[bytes, None]) -> Response:
        """Answer with a stream."""
        seconds = self._service.settings.keep_alive_seconds
        return EventStreamResponse(pieces, seconds, on_close=self.left)

    async def answer(self, request: Request, body: Coroutine[Any, Any, Json]) -> Response:
        """Answer in one piece, unless the client leaves before."""
        answering = asyncio.create_task(body)
        leaving = asyncio.create_task(_gone(request.receive))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                return Response(status_code=CLIENT_IS_GONE)
            try:
                return JSONResponse(answering.result())
            except ApiError as error:
                # Clients of OpenAI ask again by themselves, and tools may have had their effects.
                response = error_response(error)
                response.headers["x-should-retry"] = "false"
                return response
        finally:
            answering.cancel()
            leaving.cancel()
            await self.left()


async def _gone(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def stopped() -> ApiError:
    """The server stops before the run has ended."""
    return ApiError(503, "the server is stopping; ask again when it is back")
