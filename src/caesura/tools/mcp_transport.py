"""What transports of the MCP client lack: they do not tell when they end, and read without end."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import httpx2

if TYPE_CHECKING:  # the SDK does not export these names
    from mcp.client._transport import ReadStream, TransportStreams


@asynccontextmanager
async def watched(
    transport: "AbstractAsyncContextManager[TransportStreams]", ended: Callable[[], None]
) -> "AsyncIterator[TransportStreams]":
    """The transport; `ended` is called when nothing more is read from it."""
    async with transport as (incoming, outgoing):
        yield cast("ReadStream[Any]", _WatchedStream(incoming, ended)), outgoing


class _WatchedStream:
    """A stream whose reader enters it, reads to its end, and leaves it."""

    def __init__(self, stream: "ReadStream[Any]", ended: Callable[[], None]) -> None:
        self._stream = stream
        self._ended = ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> "ReadStream[Any]":
        return self._stream.__aiter__()

    async def __aenter__(self) -> "_WatchedStream":
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> bool | None:
        self._ended()
        return await self._stream.__aexit__(*raised)


class MessageTooLong(httpx2.StreamError):
    """A message is longer than it may be; the client fails the call that it answers."""


async def limit_message(response: httpx2.Response, *, most_bytes: int) -> None:
    """Let a response be read up to a limit; streams of events have one for each event."""
    if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        response.stream = _LimitedStream(response.stream, most_bytes)


class _LimitedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: Any, most_bytes: int) -> None:
        self._stream = stream
        self._most_bytes = most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size_bytes = 0
        async for part in self._stream:
            size_bytes += len(part)
            if size_bytes > self._most_bytes:
                raise MessageTooLong(
                    f"the tool's server sent a message of more than {self._most_bytes} bytes"
                )
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
