"""The name of this server among others behind a router, in every answer."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Caesura-Replica"


class ReplicaHeader:
    """Puts the server's name into the headers of answers, if it has one.

    Args:
        app: answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        name = getattr(scope["app"].state, "caesura_replica", None) if "app" in scope else None

        async def send_with_name(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = str(name)
            await send(message)

        is_named = scope["type"] == "http" and name is not None
        await self._app(scope, receive, send_with_name if is_named else send)
