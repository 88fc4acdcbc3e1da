"""A proxy between clients and a server that loses parts of answers, and sends requests twice."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CASE = "X-Case"
"""The header by which the proxy knows what it does to a request."""
_PART = 2**16


@dataclass
class Lossy:
    """The proxy; it takes one request of each connection.

    Attributes:
        url: where it is.
        times: how often each request is sent; the client gets the first answer.
        cuts: by case, after how many bytes of the next answer the connection is cut.
        moments: by case, until when the next request's connection lasts.
        bytes: by case, how long the last answer was.
    """

    url: str = ""
    times: int = 1
    cuts: dict[str, int] = field(default_factory=dict)
    moments: dict[str, Callable[[], Awaitable[object]]] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)


@asynccontextmanager
async def lossy(server_url: str, times: int = 1) -> AsyncIterator[Lossy]:
    """A proxy before a server."""
    proxy, to = Lossy(times=times), urlsplit(server_url)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            request, case = await _request(reader)
            sent = [_answer(to.hostname, to.port, request) for _ in range(proxy.times)]
            first, *others = await asyncio.gather(*sent)
            forwarding = asyncio.ensure_future(_forward(proxy, case, first[0], writer))
            if (moment := proxy.moments.pop(case, None)) is not None:
                await moment()
                forwarding.cancel()
            else:
                await asyncio.gather(forwarding, *(reading.read() for reading, _ in others))
            for _, writing in (first, *others):
                writing.close()
        writer.close()
        serving.discard(task)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2048)
    proxy.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        listener.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """A whole request, after whose answer the server closes the connection; and its case."""
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(_header(head, "Content-Length") or 0))
    head = re.sub(rb"(?im)^connection: [^\r]*", b"Connection: close", head)
    return head + body, _header(head, CASE)


def _header(head: bytes, name: str) -> str:
    found = re.search(rb"(?im)^%s: ([^\r]*)" % name.encode(), head)
    return found[1].decode() if found else ""


async def _answer(
    host: str | None, port: int | None, request: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    await writer.drain()
    return reader, writer


async def _forward(
    proxy: Lossy, case: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    cut, length = proxy.cuts.pop(case, None), 0
    while cut is None or length < cut:
        part = await reader.read(_PART)
        if not part:
            break
        part = part if cut is None else part[: cut - length]
        length += len(part)
        writer.write(part)
        await writer.drain()
    proxy.bytes[case] = length
