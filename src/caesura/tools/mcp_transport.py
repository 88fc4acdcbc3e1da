"""A transport that says when it ends, which the MCP client does not tell."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

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
