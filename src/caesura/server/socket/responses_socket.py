"""The part of the server that takes WebSockets at `/v1/responses`."""

from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import State
from starlette.types import ASGIApp, Receive, Scope, Send

from caesura.server.access import CALLER, Caller
from caesura.server.body_guard import BodyGuard, request_limits
from caesura.server.errors import error_response
from caesura.server.sessions.service import Service
from caesura.server.socket.connection import Connection, SocketLimits
from caesura.server.socket.inner_requests import PATH, InnerRequests
from caesura.session.errors import QuotaExceeded


class ResponsesSocket:
    """Serves the sockets of `client.responses.connect()`; all else passes.

    The gate has admitted them: key, host and origin are those of the handshake.

    Args:
        app: what serves requests, those of sockets among them.
        limits: of each socket.
    """

    def __init__(self, app: ASGIApp, limits: SocketLimits | None = None) -> None:
        self._app = app
        self._guarded = BodyGuard(app)  # what a message asks for was not looked at before
        self._limits = limits or SocketLimits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "websocket" or path != PATH:
            await self._app(scope, receive, send)
            return
        caller: Caller = scope[CALLER]
        service = getattr(scope["app"].state, "caesura", None)
        streams = service.streams if isinstance(service, Service) else None
        try:
            if streams is not None:
                streams.open(caller.owner)
        except QuotaExceeded as error:
            await error_response(error)(scope, receive, send)
            return
        try:
            await receive()  # that it wants to be accepted
            await send({"type": "websocket.accept"})
            requests = InnerRequests(self._guarded, scope)
            limits = request_limits(scope)
            await Connection(requests, receive, send, limits, self._limits).serve()
        finally:
            if streams is not None:
                await streams.close(caller.owner)


class ResponsesSockets:
    """The part."""

    def attach(self, app: FastAPI) -> None:
        """Before the middleware of all parts that serve requests of sockets."""
        app.add_middleware(ResponsesSocket)

    @asynccontextmanager
    async def running(
        self, engine_client: Any, state: State, args: Namespace
    ) -> AsyncIterator[None]:
        """Nothing outlives a socket."""
        yield
