"""Marks the requests of the client routes, and shows their report in response headers."""

from collections.abc import Iterator

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from caesura.server.access import CALLER, Caller
from caesura.server.clients.hints import session_of
from caesura.server.clients.lanes import LANE
from caesura.server.clients.turns import ClientTurn, serving

PATHS = frozenset({"/v1/chat/completions", "/v1/responses", "/v1/messages"})


class TurnMiddleware:
    """Gives each request of a client route its `ClientTurn`.

    Args:
        app: what serves it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if not _is_turn(scope):
            await self._app(scope, receive, send)
            return
        caller: Caller = scope[CALLER]
        session_id = session_of(Headers(scope=scope))
        turn = ClientTurn(caller.owner, session_id, lane=scope.get(LANE))
        if turn.lane is not None:
            turn.lane.begin()

        async def send_with_report(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _report_headers(turn):
                    headers[name] = value
            await send(message)

        with serving(turn):
            await self._app(scope, receive, send_with_report)


def _is_turn(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    return scope["path"].removeprefix(scope.get("root_path", "")) in PATHS


def _report_headers(turn: ClientTurn) -> Iterator[tuple[str, str]]:
    """What is known when the response starts; for a stream that is the continuation alone."""
    if turn.messages is None:
        return
    for name, value in turn.report().items():
        if value is not None:
            shown = f"{value:.3f}" if isinstance(value, float) else str(value)
            yield f"X-Caesura-{name.replace('_', '-').title()}", shown
