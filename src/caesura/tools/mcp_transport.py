"""A transport that says when it ends, which the MCP client does not tell."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mcp.shared.message import SessionMessage

if TYPE_CHECKING:  # the SDK does not export these names
    from mcp.client._transport import ReadStream, TransportStreams


@asynccontextmanager
async def watched(
    transport: "AbstractAsyncContextManager[TransportStreams]", ended: Callable[[], None]
) -> "AsyncIterator[TransportStreams]":
    """The transport; `ended` is called when nothing more can be read from it."""
    async with transport as (incoming, outgoing):
        yield _WatchedStream(incoming, ended), outgoing


class _WatchedStream:
    """A stream that reports its end."""

    def __init__(
        self, stream: "ReadStream[SessionMessage | Exception]", ended: Callable[[], None]
    ) -> None:
        self._stream = stream
        self._ended = ended

    @property
    def last_context(self) -> object:
        """The context of who sent the last message, where the stream keeps it."""
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        try:
            return await self._stream.receive()
        except Exception:  # the end and every failure: nothing more can be read
            self._ended()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await anext(self._stream)
        except Exception:  # the end and every failure: nothing more can be read
            self._ended()
            raise

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._stream.__aexit__(exc_type, exc, traceback)
