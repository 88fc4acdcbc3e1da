"""`caesura chat` in a process of its own, in a terminal or in a pipe; and a line that breaks."""

import asyncio
import fcntl
import os
import re
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

COMMAND = (sys.executable, "-m", "caesura.cli", "chat")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_WAIT_SECONDS = 60


@dataclass(frozen=True)
class Finished:
    """What a chat came to."""

    status: int
    answers: str
    notes: str


async def chat(*arguments: str, lines: str = "", **environment: str) -> Finished:
    """Run it to its end with lines that are piped in."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    async with asyncio.timeout(_WAIT_SECONDS):
        answers, notes = await process.communicate(lines.encode())
    assert process.returncode is not None
    return Finished(process.returncode, answers.decode(), notes.decode())


class Terminal:
    """A terminal with a chat in it; `screen` is all that was ever written, without its colours.

    What the prompt draws again is in it as often as it was drawn, as far as it differed.
    """

    def __init__(self, process: asyncio.subprocess.Process, descriptor: int) -> None:
        self.process = process
        self.raw = b""
        self.screen = ""
        self._descriptor = descriptor
        self._changed = asyncio.Event()
        self._seen = 0
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    async def until(self, text: str) -> None:
        """Wait for a text, after the one that was waited for before."""
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                while (found := self.screen.find(text, self._seen)) < 0:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self._fail(f"{text!r} did not come")
        self._seen = found + len(text)

    async def status(self) -> int:
        """Wait for its end."""
        async with asyncio.timeout(_WAIT_SECONDS):
            return await self.process.wait()

    @property
    def echoes(self) -> bool:
        """Whether the terminal is as it was before the chat."""
        return bool(termios.tcgetattr(self._descriptor)[3] & termios.ECHO)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self._descriptor)
            return
        self.raw += data
        self.screen = _ESCAPE.sub("", self.raw.decode(errors="ignore"))
        self._changed.set()

    def _fail(self, message: str) -> NoReturn:
        raise AssertionError(f"{message}; the screen:\n{self.screen}")


def _own_terminal() -> None:
    """The terminal controls the process, so that Ctrl-C reaches it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@asynccontextmanager
async def terminal(*arguments: str, columns: int = 200) -> AsyncIterator[Terminal]:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(ours, (50, columns))
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_own_terminal,
        env=os.environ | {"TERM": "xterm"},
    )
    made = Terminal(process, ours)
    try:
        yield made
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        asyncio.get_running_loop().remove_reader(ours)
        os.close(theirs)
        os.close(ours)


class Wire:
    """Carries bytes to a server, until it is cut; then it can be mended."""

    def __init__(self, port: int) -> None:
        self.url = ""
        self.connections = 0
        self._port = port
        self._is_whole = True
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        self._is_whole = False
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self._is_whole = True

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if not self._is_whole:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            self._writers -= {writer, far_writer}
            writer.transport.abort()
            far_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def wire(url: str) -> AsyncIterator[Wire]:
    made = Wire(int(url.rpartition(":")[2]))
    server = await asyncio.start_server(made.carry, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        made.cut()
        server.close()
        await server.wait_closed()
