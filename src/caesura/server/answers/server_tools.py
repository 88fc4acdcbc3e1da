"""Finds requests whose tools the server runs; all others pass."""

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
from caesura.server.bodies import BodyLimits, read_body
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
_STORED = re.compile(r"/v1/responses/resp_(?P<hex>[0-9a-f]{32})(?P<cancel>/cancel)?")
_FIELD = re.compile(rb'"caesura"\s{0,32}:')  # in raw JSON
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
        if scope["method"] == "POST" and path in HANDLERS:
            await self._create(HANDLERS[path], scope, receive, send)
        elif (stored := _STORED.fullmatch(path)) is not None:
            await self._stored(stored, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _create(self, handler: Handler, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        whole = await receive()  # the guard hands it on in one
        try:
            asked = await _asked(whole.get("body", b""), _limits(request))
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        if asked is None:
            await self._app(scope, _first(whole, receive), send)
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


def _first(message: Message, receive: Receive) -> Receive:
    """Gives a message once more, and then what follows."""
    messages = [message]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

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
