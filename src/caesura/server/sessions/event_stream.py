"""Server-sent events: their format, keep-alive, and an end when the client goes.

`sse-starlette` is not used: each event loop that has streamed once keeps a task of it that polls
for the end of the process, it patches uvicorn when it is imported, and who wants a stream closed
that never began, or word of its end, writes the same class around it.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

import anyio
from pydantic import JsonValue
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

KEEP_ALIVE = b": keep-alive\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def encoded_event(
    data: Mapping[str, JsonValue], kind: str | None = None, number: int | None = None
) -> bytes:
    """One event in the format of event streams."""
    lines = [] if number is None else [f"id: {number}"]
    if kind is not None:
        lines.append(f"event: {kind}")
    lines.append(f"data: {json.dumps(data, separators=(',', ':'))}")
    return ("\n".join(lines) + "\n\n").encode()


class EventStreamResponse(StreamingResponse):
    """A stream of events.

    What has no reader waits at its source: a slow client costs no memory.

    Args:
        pieces: encoded events; closed in the end.
        keep_alive_seconds: after so long without one, a comment is sent.
        on_close: called once, when the stream is over or the client is gone.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        keep_alive_seconds: float,
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._pieces = pieces
        self._on_close = on_close
        stream = _with_keep_alive(pieces, keep_alive_seconds)
        self._closing = stream.aclose
        super().__init__(stream, headers=_HEADERS, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Cancelled or not, and also if the stream was never begun.
            with anyio.CancelScope(shield=True):
                await self._closing()
                await self._pieces.aclose()
                if self._on_close is not None:
                    await self._on_close()


async def _with_keep_alive(
    pieces: AsyncGenerator[bytes, None], seconds: float
) -> AsyncGenerator[bytes, None]:
    following = asyncio.ensure_future(_following(pieces))
    try:
        while True:
            done, _ = await asyncio.wait((following,), timeout=seconds)
            if not done:
                yield KEEP_ALIVE
                continue
            piece = following.result()
            if piece is None:
                return
            yield piece
            following = asyncio.ensure_future(_following(pieces))
    finally:
        # Who waits for a piece must be gone before the source is closed.
        with anyio.CancelScope(shield=True):
            following.cancel()
            await asyncio.wait((following,))


async def _following(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)
