"""Where lines come from: a terminal, or anything else that is standard input."""

import asyncio
import codecs
import os
import sys
import termios
import threading
import tty
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rich.cells import cell_len
from rich.console import Console

from caesura.chat.editor import LineEditor

_READ_BYTES = 4096
_PROMPT = "› "


@dataclass(frozen=True, slots=True)
class Typed:
    """A line was typed.

    Attributes:
        text: without its end.
        seconds: when, on the event loop's clock.
    """

    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Edited:
    """A line is being typed, or is not any more."""


@dataclass(frozen=True, slots=True)
class Closed:
    """No more lines will come."""


Input = Typed | Edited | Closed


class Keyboard(Protocol):
    """Gives lines to a callback, on the event loop."""

    @property
    def is_typing(self) -> bool:
        """Whether a line has begun: nothing else should be written now."""
        ...

    @property
    def is_terminal(self) -> bool:
        """Whether somebody types, who sees what is written and what is typed."""
        ...

    def show(self) -> None:
        """Show that a line can be typed, and what is typed already."""
        ...

    def hide(self) -> None:
        """Make room for other output."""
        ...

    def close(self) -> None:
        """Leave everything as it was before."""
        ...


class TerminalKeyboard:
    """A terminal. What is typed is edited here, so that output does not fall into it.

    Args:
        console: the terminal's output.
        put: called with every input.
    """

    is_terminal = True

    def __init__(self, console: Console, put: Callable[[Input], None]) -> None:
        self._console = console
        self._put = put
        self._editor = LineEditor()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._is_shown = False
        self._descriptor = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor, termios.TCSADRAIN)  # what was typed already counts
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    @property
    def is_typing(self) -> bool:
        """See `Keyboard`."""
        return bool(self._editor.text)

    def show(self) -> None:
        """See `Keyboard`."""
        room = max(8, self._console.width - cell_len(_PROMPT) - 1)
        before, after = _window(self._editor.text, self._editor.cursor, room)
        back = f"\x1b[{cell_len(after)}D" if after else ""
        self._write(f"\r\x1b[K{_PROMPT}{before}{after}{back}")
        self._is_shown = True

    def hide(self) -> None:
        """See `Keyboard`."""
        if self._is_shown:
            self._write("\r\x1b[K")
            self._is_shown = False

    def close(self) -> None:
        """See `Keyboard`."""
        self.hide()
        asyncio.get_running_loop().remove_reader(self._descriptor)
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def _read(self) -> None:
        data = os.read(self._descriptor, _READ_BYTES)
        loop = asyncio.get_running_loop()
        for line in self._editor.feed(self._decode(data)):
            self._put(Typed(line, loop.time()))
        if not data or self._editor.is_closed:
            loop.remove_reader(self._descriptor)
            self._put(Closed())
        else:
            self._put(Edited())

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


class _Unattended:
    """Lines that nobody types."""

    is_terminal = False
    is_typing = False

    def show(self) -> None:
        """See `Keyboard`: nobody looks."""

    def hide(self) -> None:
        """See `Keyboard`: nothing is shown."""

    def close(self) -> None:
        """See `Keyboard`: nothing was changed."""


class PipedLines(_Unattended):
    """Standard input that is a file or a pipe.

    Args:
        put: called with every input.
    """

    def __init__(self, put: Callable[[Input], None]) -> None:
        loop = asyncio.get_running_loop()

        def read() -> None:
            # A loop that is closed: the chat is over, and nobody waits for lines.
            try:
                for line in sys.stdin:
                    loop.call_soon_threadsafe(put, Typed(line.rstrip("\r\n"), loop.time()))
                loop.call_soon_threadsafe(put, Closed())
            except RuntimeError:
                return

        threading.Thread(target=read, name="caesura-lines", daemon=True).start()


class GivenLine(_Unattended):
    """One line of the command line.

    Args:
        line: the line.
        put: called with every input.
    """

    def __init__(self, line: str, put: Callable[[Input], None]) -> None:
        put(Typed(line, asyncio.get_running_loop().time()))
        put(Closed())


def _window(text: str, cursor: int, room: int) -> tuple[str, str]:
    """What fits of a line, before and after the cursor, in cells."""
    start = cursor
    while start > 0 and cell_len(text[start - 1 : cursor]) <= room:
        start -= 1
    end = cursor
    while end < len(text) and cell_len(text[start : end + 1]) <= room:
        end += 1
    return text[start:cursor], text[cursor:end]
