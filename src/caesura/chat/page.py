"""Lines that are written one after the other, to a terminal or to a file."""

from collections.abc import Callable

from rich.console import Console
from rich.style import Style

from caesura.chat.quoting import MARKS
from caesura.chat.texts import settled, wrapped
from caesura.console import printable


class Page:
    """Takes texts in pieces and whole lines. Nothing in them steers the terminal.

    On a terminal lines break between words; in a file only where the text has a line feed.

    Args:
        console: where it is written.
        width: of the terminal, in cells; None for that of the console.
        has_foot: a prompt stands below, which shows the open line until that is complete.

    Attributes:
        open_line: a line that is not complete.
        open_style: its style.
    """

    def __init__(
        self,
        console: Console,
        *,
        width: Callable[[], int] | None = None,
        has_foot: bool = False,
    ) -> None:
        self.open_line = ""
        self.open_style = ""
        self.has_foot = has_foot
        self._console = console
        self._width = width or (lambda: console.width)
        self._written = 0  # characters of the open line

    @property
    def width(self) -> int | None:
        """Cells of a line; None for a file, whose lines may be of any length."""
        return max(1, self._width()) if self._console.is_terminal else None

    def add(self, text: str, style: str = "") -> None:
        """Go on with the open line."""
        width = self.width
        self.open_style = style
        *lines, self.open_line = wrapped(self.open_line + printable(text), width)
        if width is not None:
            *lines, self.open_line = map(_as_no_line_of_ours, [*lines, self.open_line])
        for line in lines:
            self._complete(line)
        if not self.has_foot:
            now = self.open_line if width is None else settled(self.open_line)
            self._print(now[self._written :], style, end="")
            self._written = max(self._written, len(now))

    def end_line(self) -> None:
        """Complete the open line."""
        if self.open_line:
            self._complete(self.open_line if self.width is None else self.open_line.rstrip())
            self.open_line = ""

    def line(self, text: str, style: str = "", *, first: str = "", rest: str | None = "  ") -> None:
        """Write a text in lines of its own, above an open line at the foot.

        Args:
            text: the text.
            style: of all of it.
            first: stands before its first line.
            rest: stands before its other lines. None leaves it to the terminal to break lines:
                the text can be copied.
        """
        if not self.has_foot:
            self.end_line()
        width = None if rest is None else self.width
        for line in wrapped(printable(text), width, first=first, rest=rest or ""):
            self._print(line, style)

    def _complete(self, line: str) -> None:
        self._print(line[self._written :], self.open_style)
        self._written = 0

    def _print(self, text: str, style: str, end: str = "\n") -> None:
        # Not the console's `print`, which changes tabs, and spaces at the ends of lines.
        has_style = style and self._console.color_system is not None and not self._console.no_color
        self._console.file.write((Style.parse(style).render(text) if has_style else text) + end)
        self._console.file.flush()


def _as_no_line_of_ours(line: str) -> str:
    """The line behind a space if it begins like those that the chat itself writes."""
    return f" {line}" if line.startswith(tuple(MARKS)) else line
