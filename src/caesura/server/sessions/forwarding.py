"""Requests for a session that another server runs: they are passed on to that one.

All else any server can do by itself: it reads what is stored, and what it writes is told to the
server that runs the session.
"""

import logging
import re
from collections.abc import AsyncGenerator

import httpx
from fastapi import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from caesura.server.errors import error_response
from caesura.server.sessions.service import Service
from caesura.session.errors import StoreUnavailable

logger = logging.getLogger(__name__)

FORWARDED = b"x-caesura-forwarded"
"""A request with this header is not passed on again."""
_FOR_RUNNING = re.compile(r"/v1/sessions/([^/]+)/(events|pause|resume|cancel)")
_OF_A_HOP = {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}


class Forwarding:
    """Passes on what only the server can answer that runs a session.

    Args:
        app: answers otherwise.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._client = httpx.AsyncClient(
            follow_redirects=False, timeout=httpx.Timeout(5, read=None)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        found = _FOR_RUNNING.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if found is None or any(name == FORWARDED for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        service = getattr(request.app.state, "caesura", None)
        try:
            address = await _elsewhere(service, found[1])
        except StoreUnavailable as error:
            await error_response(error)(scope, receive, send)
            return
        if address is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await self._passed_on(address, request)
        except httpx.HTTPError as error:
            logger.warning("%s does not answer: %s", address, error or type(error).__name__)
            gone = StoreUnavailable("the server that runs this session does not answer: try again")
            response = error_response(gone)
        await response(scope, receive, send)

    async def _passed_on(self, address: str, request: Request) -> Response:
        headers = [pair for pair in request.headers.raw if pair[0] not in _OF_A_HOP]
        url = httpx.URL(address).copy_with(
            raw_path=(request.scope.get("raw_path") or request.url.path.encode())
            + (b"?" + request.scope["query_string"] if request.scope["query_string"] else b"")
        )
        answer = await self._client.send(
            self._client.build_request(
                request.method,
                url,
                headers=[*headers, (FORWARDED, b"1")],
                content=await request.body(),
            ),
            stream=True,
        )

        async def parts() -> AsyncGenerator[bytes, None]:
            try:
                async for part in answer.aiter_raw():
                    yield part
            except httpx.HTTPError as error:  # its client comes again with the last event's number
                logger.warning("%s is gone: %s", address, error or type(error).__name__)
            finally:
                await answer.aclose()

        response = StreamingResponse(parts(), answer.status_code)
        response.raw_headers = [
            (name.lower(), value)
            for name, value in answer.headers.raw
            if name.lower() not in _OF_A_HOP
        ]
        return response


async def _elsewhere(service: object, session_id: str) -> str | None:
    """The address of another server that runs the session; None if there is none."""
    if not isinstance(service, Service) or service.agents.runs(session_id):
        return None
    return await service.store.address_of(session_id) if service.store.is_shared else None
