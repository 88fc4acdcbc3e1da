"""Routes of this API: bodies have a limit, and every error is answered in one format."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope

from caesura.server.bodies import BodyLimits, read_body
from caesura.server.errors import ErrorBody, error_response
from caesura.server.sessions.service import service_of

NOT_ADMITTED: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorBody, "description": "There is no valid API key."},
    403: {"model": ErrorBody, "description": "Not from there, or not with this key."},
    415: {"model": ErrorBody, "description": "The body is not JSON, or does not say so."},
}
"""Answers that any route may give."""
ERRORS: dict[int | str, dict[str, Any]] = NOT_ADMITTED | {
    400: {"model": ErrorBody, "description": "The request does not fit."},
    404: {"model": ErrorBody, "description": "There is nothing of that id."},
    413: {"model": ErrorBody, "description": "The body is too large."},
    422: {"model": ErrorBody, "description": "The idempotency key is that of another request."},
    429: {"model": ErrorBody, "description": "There is too much of the owner already."},
    503: {"model": ErrorBody, "description": "This server runs no sessions."},
}
"""Answers that any route of sessions may give."""
CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorBody, "description": "It is over."}
}


class LimitedRequest(Request):
    """A request whose body is limited.

    Args:
        scope: of the request.
        receive: gives the body.
        limits: of the body.
    """

    def __init__(self, scope: Scope, receive: Receive, limits: BodyLimits) -> None:
        super().__init__(scope, receive)
        self._limits = limits

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body in parts.

        Raises:
            ApiError: it is too large; the rest is not read.
        """
        size_bytes = 0
        async for part in super().stream():
            size_bytes += len(part)
            self._limits.require_size(size_bytes)
            yield part

    async def json(self) -> Any:
        """The body's value.

        Raises:
            ApiError: it holds too much.
            JSONDecodeError: it is not JSON.
        """
        return await read_body(await self.body(), self._limits)


class ApiRoute(APIRoute):
    """A route of this API. Errors are answered here, since vLLM's handlers would change them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute`."""
        handle = super().get_route_handler()

        async def handle_limited(request: Request) -> Response:
            try:
                limits = service_of(request).body_limits
                return await handle(LimitedRequest(request.scope, request.receive, limits))
            except Exception as error:
                return error_response(error)

        return handle_limited
