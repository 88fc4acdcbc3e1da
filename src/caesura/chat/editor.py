"""A line that is being typed: text, cursor, history. It knows no terminal."""

import re
from enum import StrEnum

_KEY = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z~]|O[A-Za-z])|\x1b(?=.)|[^\x1b]", re.DOTALL)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;?]*|O)?\Z")


class Key(StrEnum):
    """Keys that do something else than insert themselves."""

    ENTER = "\r"
    NEWLINE = "\n"
    BACKSPACE = "\x7f"
    RUBOUT = "\x08"
    START = "\x01"
    END = "\x05"
    CLEAR = "\x15"
    DELETE_WORD = "\x17"
    END_OF_INPUT = "\x04"
    LEFT = "\x1b[D"
    RIGHT = "\x1b[C"
    UP = "\x1b[A"
    DOWN = "\x1b[B"
    HOME = "\x1b[H"
    LAST = "\x1b[F"
    DELETE = "\x1b[3~"


class LineEditor:
    """Takes keys and gives lines.

    Attributes:
        text: of the line.
        cursor: position in it.
        is_closed: the end of input was typed.
    """

    def __init__(self) -> None:
        self.text = ""
        self.cursor = 0
        self.is_closed = False
        self._history: list[str] = []
        self._recalled = 0  # position in the history; its length for the line that is new
        self._unfinished = ""

    def feed(self, characters: str) -> list[str]:
        """Take what was typed; the lines that it completes."""
        characters = self._unfinished + characters
        unfinished = _UNFINISHED.search(characters)
        self._unfinished = unfinished[0] if unfinished else ""
        lines = []
        for key in _KEY.findall(characters.removesuffix(self._unfinished)):
            line = self._press(key)
            if line is not None:
                lines.append(line)
        return lines

    def _press(self, key: str) -> str | None:
        match key:
            case Key.ENTER | Key.NEWLINE:
                return self._submit()
            case Key.BACKSPACE | Key.RUBOUT:
                self._delete(self.cursor - 1, self.cursor)
            case Key.DELETE:
                self._delete(self.cursor, self.cursor + 1)
            case Key.CLEAR:
                self._delete(0, self.cursor)
            case Key.DELETE_WORD:
                before = self.text[: self.cursor].rstrip()
                self._delete(before.rfind(" ") + 1, self.cursor)
            case Key.LEFT:
                self.cursor = max(0, self.cursor - 1)
            case Key.RIGHT:
                self.cursor = min(len(self.text), self.cursor + 1)
            case Key.START | Key.HOME:
                self.cursor = 0
            case Key.END | Key.LAST:
                self.cursor = len(self.text)
            case Key.UP:
                self._recall(self._recalled - 1)
            case Key.DOWN:
                self._recall(self._recalled + 1)
            case Key.END_OF_INPUT:
                self.is_closed = self.is_closed or not self.text
            case _ if key.isprintable():
                self.text = self.text[: self.cursor] + key + self.text[self.cursor :]
                self.cursor += 1
        return None

    def _submit(self) -> str:
        line = self.text
        if line and line not in self._history[-1:]:
            self._history.append(line)
        self._recalled = len(self._history)
        self.text, self.cursor = "", 0
        return line

    def _delete(self, start: int, end: int) -> None:
        start = max(0, start)
        self.text = self.text[:start] + self.text[end:]
        self.cursor = start

    def _recall(self, position: int) -> None:
        if 0 <= position <= len(self._history):
            self._recalled = position
            self.text = [*self._history, ""][position]
            self.cursor = len(self.text)
