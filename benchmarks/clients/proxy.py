"""A proxy that notes what the server answers to clients that do not show it."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

ROUTES = re.compile(r"/v1/(chat/completions|responses|messages)$")
_REPORT = re.compile(r'"caesura":\s*(\{[^{}]*\})')
_HOP_BY_HOP = {"host", "connection", "transfer-encoding", "content-length", "accept-encoding"}


@dataclass(frozen=True)
class Turn:
    """A request to a model, and what the server says of it.

    Attributes:
        path: the route.
        status: of the answer.
        report: what became of the context.
        cached_tokens: of the prompt, as the usage says; None if it says nothing.
    """

    path: str
    status: int
    report: dict[str, Any]
    cached_tokens: int | None


@dataclass
class Recorder:
    """The proxy.

    Attributes:
        to: the server's address.
        turns: in order.
    """

    to: str
    turns: list[Turn] = field(default_factory=list)

    def app(self) -> Starlette:
        """The proxy as an application."""
        self._client = httpx.AsyncClient(base_url=self.to, timeout=600)
        methods = ["GET", "POST", "DELETE", "HEAD"]
        return Starlette(routes=[Route("/{path:path}", self._pass, methods=methods)])

    async def _pass(self, request: Request) -> StreamingResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        url = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        sent = self._client.build_request(
            request.method, url, headers=headers, content=await request.body()
        )
        answer = await self._client.send(sent, stream=True)
        pieces: list[bytes] = []

        async def body() -> AsyncIterator[bytes]:
            async for piece in answer.aiter_bytes():
                pieces.append(piece)
                yield piece

        async def note() -> None:
            await answer.aclose()
            if request.method == "POST" and ROUTES.search(request.url.path):
                self.turns.append(_turn(request.url.path, answer, b"".join(pieces).decode()))

        kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
        kept.pop("content-encoding", None)
        return StreamingResponse(body(), answer.status_code, kept, background=BackgroundTask(note))


def _turn(path: str, answer: httpx.Response, text: str) -> Turn:
    prefix = "x-caesura-"
    report: dict[str, Any] = {
        name.removeprefix(prefix).replace("-", "_"): value
        for name, value in answer.headers.items()
        if name.startswith(prefix)
    }
    if found := _REPORT.findall(text):
        report |= json.loads(found[-1])
    cached = re.findall(r'"(?:cached_tokens|cache_read_input_tokens)":\s*(\d+)', text)
    return Turn(path, answer.status_code, report, int(cached[-1]) if cached else None)
