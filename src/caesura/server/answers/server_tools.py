"""Finds requests whose tools the server runs; all others pass, unless they take long to read."""

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress

from fastapi import Request
from pydantic import JsonValue
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from caesura.server.access import owner_of
from caesura.server.answers.chat import create_chat_completion
from caesura.server.answers.responses import StoredResponse, create_response
from caesura.server.bodies import BodyLimits, read_body, require_light
from caesura.server.errors import ApiError, error_response
from caesura.server.sessions.event_stream import EventStreamResponse
from caesura.server.sessions.service import Service, service_of
from caesura.server.settings import ServerSection
from caesura.session.errors import SessionClosed, UnknownSession

Handler = Callable[[Request, Service, str, dict[str, JsonValue]], Awaitable[Response]]

HANDLERS: dict[str, Handler] = {
    "/v1/chat/completions": create_chat_completion,
    "/v1/responses": create_response,
}
# Routes of vLLM that read such bodies, too.
_ALSO_CHECKED = frozenset({"/v1/completions", "/v1/messages"})
_STORED = re.compile(r"/v1/responses/resp_(?P<hex>[0-9a-f]{32})(?P<cancel>/cancel)?")
# The field in raw JSON. Its longest match bounds what must be kept of one part for the next.
_FIELD = re.compile(rb'"caesura"\s{0,32}:')
_LONGEST_FIELD_BYTES = len(b'"caesura":') + 32
_OFF = ApiError(
    403,
    "server-run tools are turned off here (server.tools_in_openai_routes); use /v1/sessions",
    param="caesura",
    code="server_tools_off",
)


class ServerTools:
    """Answers requests that have `caesura.tools` in their body, and asks for their responses.

    Args:
        app: what answers all others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["method"] == "POST" and (path in HANDLERS or path in _ALSO_CHECKED):
            await self._create(HANDLERS.get(path), scope, receive, send)
        elif (stored := _STORED.fullmatch(path)) is not None:
            await self._stored(stored, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _create(
        self, handler: Handler | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        request = Request(scope, receive)
        limits = _limits(request)
        try:
            body, gone = await _body(receive, limits)
            asked = None
            if gone is None and handler is not None:
                asked = await _asked(body, limits)
            if gone is None and asked is None:
                await require_light(body)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        if asked is None or handler is None:
            await self._app(scope, _again(body, gone, receive), send)
            return
        try:
            service = service_of(request)
            if not service.settings.tools_in_openai_routes:
                raise _OFF
            response = await handler(request, service, owner_of(request), asked)
        except Exception as error:
            response = error_response(error)
        await response(scope, receive, send)

    async def _stored(
        self, stored: re.Match[str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        request = Request(scope, receive)
        running = isinstance(getattr(request.app.state, "caesura", None), Service)
        session_id, is_cancel = f"sess_{stored['hex']}", stored["cancel"] is not None
        response: Response | None = None
        if running and scope["method"] in (("POST",) if is_cancel else ("GET", "DELETE")):
            try:
                response = await _stored_response(request, session_id, cancel=is_cancel)
            except UnknownSession:
                pass  # vLLM may have a response of that id
            except Exception as error:
                response = error_response(error)
        if response is None:
            await self._app(scope, receive, send)
        else:
            await response(scope, receive, send)


async def _stored_response(request: Request, session_id: str, *, cancel: bool) -> Response:
    service, owner = service_of(request), owner_of(request)
    record = await service.agents.get(owner, session_id)
    if request.method == "DELETE":
        message = "a response whose tools the server runs is kept until sessions are forgotten"
        raise ApiError(405, f"{message} (sessions.retention_seconds)", code="not_deletable")
    if cancel:
        with suppress(SessionClosed):  # a response that is over is answered as it is
            await service.cancel(owner, session_id)
        record = await service.agents.get(owner, session_id)
    elif _asks_for_stream(request):
        events = StoredResponse(service, record).events()
        return EventStreamResponse(events, service.settings.keep_alive_seconds)
    return JSONResponse(await StoredResponse(service, record).so_far())


def _asks_for_stream(request: Request) -> bool:
    """Whether a stored response is to be streamed.

    Raises:
        ApiError: from a place in the middle: the pieces of an output that is complete are not
            kept, so the numbers of events change.
    """
    if request.query_params.get("stream", "false").lower() not in ("true", "1"):
        return False
    if request.query_params.get("starting_after") is not None:
        message = "a response whose tools the server runs is streamed from its beginning only"
        raise ApiError(
            400,
            f"{message}: leave starting_after out, or follow /v1/sessions/ID/events?after=NUMBER",
            param="starting_after",
        )
    return True


def _limits(request: Request) -> BodyLimits:
    """What a body may hold that is ours; the default where no sessions are run."""
    service = getattr(request.app.state, "caesura", None)
    if isinstance(service, Service):
        return service.body_limits
    return BodyLimits(ServerSection().body_limit)


async def _body(receive: Receive, limits: BodyLimits) -> tuple[bytes, Message | None]:
    """The whole body; or what came of it and the message that it ended with instead.

    Raises:
        ApiError: it has our field and is beyond the limit; the rest is not received. Bodies
            without the field may have any size: they are vLLM's.
    """
    parts: list[bytes] = []
    size_bytes, has_field, end = 0, False, b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts), message
        part = message.get("body", b"")
        parts.append(part)
        size_bytes += len(part)
        has_field = has_field or _FIELD.search(end + part) is not None
        end = (end + part)[-_LONGEST_FIELD_BYTES:]
        if has_field:
            limits.require_size(size_bytes)
        if not message.get("more_body", False):
            return b"".join(parts), None


def _again(body: bytes, gone: Message | None, receive: Receive) -> Receive:
    """Gives what was received once more, and then what follows."""
    messages: list[Message] = [
        {"type": "http.request", "body": body, "more_body": gone is not None}
    ]
    if gone is not None:
        messages.append(gone)

    async def receive_again() -> Message:
        return messages.pop(0) if messages else await receive()

    return receive_again


async def _asked(body: bytes, limits: BodyLimits) -> dict[str, JsonValue] | None:
    """The body, if it names tools that the server runs.

    Raises:
        ApiError: it has our field, and holds more than it may.
    """
    if _FIELD.search(body) is None:
        return None
    try:
        asked = await read_body(body, limits)
    except ValueError:
        return None  # not JSON: vLLM says so
    if not isinstance(asked, dict) or not isinstance(asked.get("caesura"), dict):
        return None
    return asked if "tools" in asked["caesura"] else None
