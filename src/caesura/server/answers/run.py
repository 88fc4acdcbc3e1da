"""A request of OpenAI's routes, answered by a session."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse, Response

from caesura.server.answers.chat_run import Json
from caesura.server.answers.run_reader import RunReader, Step
from caesura.server.errors import ApiError
from caesura.server.sessions.event_stream import EventStreamResponse
from caesura.server.sessions.service import Service
from caesura.session.agent import Agent
from caesura.session.errors import SessionClosed
from caesura.session.records import SessionSpec

CLIENT_IS_GONE = 499


class Run:
    """A session that answers one request.

    Args:
        service: has the sessions.
        agent: the session.
        kept: it goes on when its client leaves.
    """

    def __init__(self, service: Service, agent: Agent, *, kept: bool) -> None:
        self.agent = agent
        self._service = service
        self._kept = kept
        self._reader = RunReader()

    @classmethod
    async def begin(cls, service: Service, owner: str, spec: SessionSpec, *, kept: bool) -> "Run":
        """Make the session.

        Raises:
            ApiError: a tool is not configured, or the chat template refuses the messages.
            SessionError: there is no room for it.
        """
        spec = spec.model_copy(update={"attached": not kept})
        return cls(service, await service.create(owner, spec, "caesura.tools"), kept=kept)

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
        if not self._kept:
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
            if answering.done():
                return JSONResponse(answering.result())
            return Response(status_code=CLIENT_IS_GONE)
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
