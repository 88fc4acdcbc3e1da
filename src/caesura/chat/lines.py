"""Where lines come from: a prompt, or anything else that is standard input."""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO

from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.output import create_output
from prompt_toolkit.output.vt100 import Vt100_Output

from caesura.chat.page import Page
from caesura.console import plain_console


@dataclass(frozen=True, slots=True)
class Typed:
    """A line was typed; `begun_seconds` is when it was begun, on the event loop's clock."""

    text: str
    begun_seconds: float


@dataclass(frozen=True, slots=True)
class Closed:
    """No more lines will come."""


Input = Typed | Closed


class Lines:
    """Gives lines to a callback, on the event loop.

    Attributes:
        is_terminal: somebody types, who sees what is written and what is typed.
        foot: gives what stands at the foot of the terminal, as styles and texts. It is called
            with the time at which the line that is being typed was begun.
    """

    is_terminal = False
    foot: Callable[[float], StyleAndTextTuples]

    def refresh(self) -> None:
        """Show what was written since the last time."""

    async def close(self) -> None:
        """Leave everything as it was before."""


class Prompt(Lines):
    """A line to type at the foot of a terminal.

    Args:
        put: called with every input.

    Attributes:
        page: what is written above it, shown by `refresh`.
    """

    is_terminal = True

    def __init__(self, put: Callable[[Input], None]) -> None:
        output = self._output = create_output(always_prefer_tty=True)
        if isinstance(output, Vt100_Output):
            output.enable_cpr = False  # every line would wait for the terminal's answer
        self._written = StringIO()
        console = plain_console(file=self._written)
        self.page = Page(console, width=lambda: output.get_size().columns, has_foot=True)
        self._put = put
        self._clock = asyncio.get_running_loop().time
        self._begun_seconds: float | None = None  # of the line that is being typed
        keys = KeyBindings()
        # A signal, as it is while nobody reads keys.
        keys.add("c-c")(lambda event: signal.raise_signal(signal.SIGINT))
        self._session = PromptSession[str](
            lambda: self.foot(self._begun()),
            key_bindings=keys,
            enable_suspend=True,
            erase_when_done=True,
            output=output,
        )
        self._session.default_buffer.on_text_changed += self._edited
        self._session.default_buffer.accept_handler = self._accept
        self._reader = asyncio.create_task(self._read())

    def refresh(self) -> None:
        """See `Lines`."""
        text, app = self._written.getvalue(), self._session.app
        if text:
            self._written.seek(0)
            self._written.truncate()
            # Not `run_in_terminal`: keys that are pressed meanwhile would be the terminal's.
            if app.is_running:
                app.renderer.erase()
            self._output.write_raw(text)
            self._output.flush()
        app.invalidate()

    async def close(self) -> None:
        """See `Lines`."""
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader
        self.refresh()

    async def _read(self) -> None:
        try:
            await self._session.prompt_async(handle_sigint=False)
        except EOFError:
            pass
        finally:
            self._put(Closed())

    def _edited(self, buffer: Buffer) -> None:
        self._begun_seconds = self._begun() if buffer.text else None

    def _begun(self) -> float:
        """When the line that is being typed was begun; now if there is none."""
        return self._clock() if self._begun_seconds is None else self._begun_seconds

    def _accept(self, buffer: Buffer) -> bool:
        """Take a line. The prompt stays, so that no key is pressed where nobody reads it."""
        self._put(Typed(buffer.text, self._begun()))
        self._begun_seconds = None
        return False


def piped_lines(put: Callable[[Input], None]) -> Lines:
    """Standard input that is a file or a pipe."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        with suppress(RuntimeError):  # a loop that is closed: nobody waits for lines
            for line in sys.stdin:
                loop.call_soon_threadsafe(put, Typed(line.rstrip("\r\n"), loop.time()))
            loop.call_soon_threadsafe(put, Closed())

    threading.Thread(target=read, name="caesura-lines", daemon=True).start()
    return Lines()


def given_line(line: str, put: Callable[[Input], None]) -> Lines:
    """One line of the command line."""
    put(Typed(line, asyncio.get_running_loop().time()))
    put(Closed())
    return Lines()
