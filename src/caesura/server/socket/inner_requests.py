"""`POST /v1/responses` from within: the same route, middleware and limits as over HTTP."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from starlette.types import ASGIApp, Message, Scope

from caesura.server.errors import ApiError
from caesura.server.socket.client_events import Json

PATH = "/v1/responses"
# Those of the handshake, and what the body of each request has of its own.
_NOT_HANDED_ON = ("connection", "content-length", "content-type", "upgrade", "transfer-encoding")
_EVENTS_AHEAD = 64  # then the sender waits: a slow client costs no memory


class InnerRequests:
    """Makes requests for the client of a socket.

    Args:
        app: what serves requests.
        scope: of the socket; owner, key and headers are those of its handshake.
    """

    def __init__(self, app: ASGIApp, scope: Scope) -> None:
        self._app = app
        root = scope.get("root_path", "")
        handed_on = [
            (name, value)
            for name, value in scope["headers"]
            if name.decode("latin-1") not in _NOT_HANDED_ON
            and not name.startswith(b"sec-websocket-")
        ]
        left_out = ("type", "subprotocols", "headers", "extensions", "scheme", "path_params")
        self._scope = {name: value for name, value in scope.items() if name not in left_out} | {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "https" if scope["scheme"] == "wss" else "http",
            "path": f"{root}{PATH}",
            "raw_path": f"{root}{PATH}".encode(),
            "query_string": b"",
            "headers": [*handed_on, (b"content-type", b"application/json")],
        }

    async def events(self, body: Json, **of_scope: Any) -> AsyncGenerator[Json, None]:
        """The events of one streamed response. Its generation ends when nobody reads them.

        Args:
            body: of the request.
            of_scope: what those who serve it find in its scope.

        Raises:
            ApiError: it was refused.
        """
        content = json.dumps(body | {"stream": True}).encode()
        exchange = _Exchange(content)
        length = (b"content-length", str(len(content)).encode())
        scope = {**self._scope, **of_scope, "headers": [*self._scope["headers"], length]}
        scope["state"] = dict(scope.get("state") or {})
        serving = asyncio.ensure_future(self._app(scope, exchange.receive, exchange.send))
        serving.add_done_callback(exchange.ended)
        try:
            async for event in exchange.events():
                yield event
            await serving
        finally:
            exchange.leave()
            serving.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await serving


class _Exchange:
    """One request and its answer, as an ASGI server has them."""

    def __init__(self, content: bytes) -> None:
        self._content: bytes | None = content
        self._gone = asyncio.Event()
        self._status = 0
        self._is_stream = False
        self._refusal = b""
        self._rest = b""
        # None behind the last.
        self._events: asyncio.Queue[Json | None] = asyncio.Queue(_EVENTS_AHEAD)
        self._is_over = False

    async def receive(self) -> Message:
        """The request; then that the client has gone, once it has."""
        if self._content is not None:
            content, self._content = self._content, None
            return {"type": "http.request", "body": content, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take the answer."""
        if self._gone.is_set():
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            kinds = [value for name, value in message["headers"] if name == b"content-type"]
            self._is_stream = any(kind.startswith(b"text/event-stream") for kind in kinds)
            return
        content = message.get("body", b"")
        if not self._is_stream:
            self._refusal += content
            return
        *blocks, self._rest = (self._rest + content).split(b"\n\n")
        for block in blocks:
            if (event := _event(block)) is not None:
                await self._events.put(event)

    async def events(self) -> AsyncGenerator[Json, None]:
        """The events until the answer is over."""
        while (event := await self._next()) is not None:
            yield event
        if not self._is_stream and self._status:
            raise _refused(self._status, self._refusal)

    async def _next(self) -> Json | None:
        if self._is_over and self._events.empty():
            return None
        return await self._events.get()

    def ended(self, _serving: object) -> None:
        """Nothing more is sent."""
        self._is_over = True
        if self._events.empty():
            self._events.put_nowait(None)  # somebody may wait

    def leave(self) -> None:
        """The client goes."""
        self._gone.set()


def _event(block: bytes) -> Json | None:
    """The data of one server-sent event; None for comments and the mark at the end."""
    lines = [line[5:].strip() for line in block.split(b"\n") if line.startswith(b"data:")]
    data = b"\n".join(lines)
    if not data.startswith(b"{"):
        return None
    event: Json = json.loads(data)
    return event


def _refused(status: int, body: bytes) -> ApiError:
    """The error of an answer, whoever of the server has written it."""
    error: Any = None
    with suppress(ValueError):
        error = json.loads(body)
    details = error.get("error", error) if isinstance(error, dict) else {}
    details = details if isinstance(details, dict) else {}
    code, param = details.get("code"), details.get("param")
    return ApiError(
        status,
        str(details.get("message") or f"the request was refused with status {status}"),
        param=param if isinstance(param, str) else None,
        code=code if isinstance(code, str) else None,
    )
