"""The first middleware: requests that may not be served end here, whatever route they are for."""

from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.datastructures import State
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from caesura.server.access import CALLER, Access, serving_caller
from caesura.server.body_guard import BodyGuard
from caesura.server.errors import ApiError, error_response

# vLLM's guards paths under /v1 only, and knows no names of keys.
_REPLACED = "AuthenticationMiddleware"


class Gate:
    """Admits requests and WebSockets, or answers what is wrong with them.

    Args:
        app: what serves them.
        access: the rules.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] in ("http", "websocket"):
            try:
                caller = self._access.admit(scope)
            except ApiError as error:
                # To a WebSocket that has not begun, a response is its refusal.
                await error_response(error)(scope, receive, send)
                return
            scope[CALLER] = caller
            with serving_caller(caller):
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class GatePart:
    """The part of the server that puts the gate where vLLM checks keys, before all of ours."""

    def attach(self, app: FastAPI) -> None:
        """Keep the application: vLLM adds its own middleware later."""
        self._app = app

    @asynccontextmanager
    async def running(
        self, engine_client: object, state: State, args: Namespace
    ) -> AsyncIterator[None]:
        """Close the gate before anything is served."""
        close_gate(self._app, state.caesura_access)
        yield


def close_gate(app: FastAPI, access: Access) -> None:
    """Put the gate into an application that has served nothing yet."""
    chain = app.user_middleware  # outermost first
    names = [getattr(each.cls, "__name__", "") for each in chain]
    gate = [Middleware(Gate, access=access), Middleware(BodyGuard)]
    if _REPLACED in names:
        at = names.index(_REPLACED)
        chain[at : at + 1] = gate
    else:
        at = names.index(CORSMiddleware.__name__) if CORSMiddleware.__name__ in names else 0
        chain[at:at] = gate
    app.middleware_stack = None  # vLLM may have built it already; it is built again when called
