"""On which line of a TOML text a key is, which `tomllib` does not tell."""

import re
from collections.abc import Iterator

KeyPath = tuple[str | int, ...]

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANKS = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}(?!")|\'\'\'.*?\'{3,5}(?!\')|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'',
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of every key, table, and item of an array.

    Args:
        text: TOML that `tomllib` accepts; of others the result means nothing.
    """
    lines: dict[KeyPath, int] = {}
    for path, line in _Scanner(text).document():
        lines.setdefault(path, line)
    return lines


def nearest_line(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """The line of a key, or of the nearest key around it; 1 if there is none."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


class _Scanner:
    """One pass over a valid TOML text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        # How many items each array of tables has so far.
        self._tables: dict[KeyPath, int] = {}

    def document(self) -> Iterator[tuple[KeyPath, int]]:
        prefix: KeyPath = ()
        self._take(_SPACE)
        while self._at < len(self._text):
            line = self._line
            if self._text.startswith("[[", self._at):
                self._skip(2)
                keys = self._key()
                prefix = self._new_item((*self._resolved(keys[:-1]), keys[-1]))
                self._skip(2)
                yield prefix[:-1], line
                yield prefix, line
            elif self._text.startswith("[", self._at):
                self._skip(1)
                prefix = self._resolved(self._key())
                self._skip(1)
                yield prefix, line
            else:
                yield from self._pair(prefix)
            self._take(_SPACE)

    def _new_item(self, array: KeyPath) -> KeyPath:
        self._tables[array] = self._tables.get(array, 0) + 1
        return (*array, self._tables[array] - 1)

    def _resolved(self, path: KeyPath) -> KeyPath:
        """The path with the index of the last item after each array of tables."""
        resolved: KeyPath = ()
        for key in path:
            resolved = (*resolved, key)
            if resolved in self._tables:
                resolved = (*resolved, self._tables[resolved] - 1)
        return resolved

    def _pair(self, prefix: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        line = self._line
        path = (*prefix, *self._key())
        for length in range(len(prefix) + 1, len(path) + 1):
            yield path[:length], line
        self._skip(1)  # the equals sign
        self._take(_BLANKS)
        yield from self._value(path)

    def _value(self, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        opening = self._text[self._at]
        if opening == "[":
            yield from self._items(path)
        elif opening == "{":
            yield from self._inline_table(path)
        elif not self._take(_STRING):
            self._take(_SCALAR)

    def _items(self, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        self._skip(1)
        self._take(_SPACE)
        index = 0
        while self._text[self._at] != "]":
            yield (*path, index), self._line
            yield from self._value((*path, index))
            index += 1
            self._separator()
        self._skip(1)

    def _inline_table(self, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        self._skip(1)
        self._take(_SPACE)
        while self._text[self._at] != "}":
            yield from self._pair(path)
            self._separator()
        self._skip(1)

    def _separator(self) -> None:
        self._take(_SPACE)
        if self._text[self._at] == ",":
            self._skip(1)
            self._take(_SPACE)

    def _key(self) -> KeyPath:
        keys: list[str] = []
        while True:
            self._take(_BLANKS)
            keys.append(self._take(_BARE_KEY) or _unquoted(self._take(_STRING)))
            self._take(_BLANKS)
            if self._text[self._at] != ".":
                return tuple(keys)
            self._skip(1)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        taken = match[0] if match else ""
        self._skip(len(taken))
        return taken

    def _skip(self, length: int) -> None:
        self._line += self._text.count("\n", self._at, self._at + length)
        self._at += length


def _unquoted(key: str) -> str:
    """A quoted key without its quotes; escapes stay, which can only cost a line number."""
    return key[1:-1]
