"""Texts in lines of a terminal, broken between words."""

import re
from collections.abc import Iterator

from rich.cells import cell_len, split_graphemes

_PIECE = re.compile(r"\t|[^\S\t]+|\S+")
_NEVER_FIRST = frozenset("、。，．！？：；）」』】》〉,.!?:;)]}")
_TAB_CELLS = 8
_NARROW_CELLS = 20  # of a terminal on which nothing is indented


def wrapped(text: str, width: int | None, *, first: str = "", rest: str = "") -> list[str]:
    """The lines of a text, broken between words, or between wide characters.

    A word that is longer than a line stays whole: the terminal breaks it, and it can be copied.
    The last line keeps the spaces at its end, so that a text which comes in pieces breaks where
    the whole one does: each piece is added to the last line.

    Args:
        text: the text.
        width: cells of a line; None breaks at line feeds only.
        first: stands before the first line.
        rest: stands before each other line.
    """
    if width is None:
        return (first + text.replace("\n", f"\n{rest}")).split("\n")
    if width < _NARROW_CELLS:
        first = rest = ""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = start = rest if lines else first
        cells = cell_len(line)
        for word, size in _words(paragraph):
            if word == "\t":
                size = _TAB_CELLS - cells % _TAB_CELLS
                word = size * " "
            if cells + size > width and not word.isspace():
                if line.strip():
                    lines.append(line)
                    start = rest
                line, cells = start, cell_len(start)
            line, cells = line + word, cells + size
        lines.append(line)
    return [*map(str.rstrip, lines[:-1]), lines[-1]]


def pieces(line: str, cells: int | None) -> list[str]:
    """A line in pieces of so many cells, broken behind a space if one is near the end. Together
    they are the line."""
    if cells is None or (len(line) <= cells and line.isascii()):
        return [line]
    found, begin, space, used = [], 0, 0, 0
    for start, end, size in split_graphemes(line)[0]:
        if used and used + size > max(cells, 1):
            cut = space if space > begin + cells // 2 else start
            found.append(line[begin:cut])
            begin, used = cut, cell_len(line[cut:start])
        used += size
        if line[start:end] == " ":
            space = end
    return [*found, line[begin:]]


def settled(line: str) -> str:
    """The part of a line that stays in it, whatever comes next: all but its last word."""
    *_, (last, _) = [("", 0), *_words(line)]
    return line if last.isspace() else line.removesuffix(last)


def shortened(text: str, width: int | None) -> str:
    """The words of a text that fit in one line, with … if it has more."""
    first, *others = wrapped(" ".join(text.split()), None if width is None else width - 1)
    return f"{first}…" if others else first


def _words(paragraph: str) -> Iterator[tuple[str, int]]:
    """What may not be broken, with its cells: words, spaces, and wide characters, each of which
    is a word, but for those that may not begin a line."""
    for piece in _PIECE.findall(paragraph):
        if piece.isascii():
            yield piece, len(piece)
            continue
        word, cells, is_wide = "", 0, False
        for start, end, size in split_graphemes(piece)[0]:
            if word and (size > 1 or is_wide) and piece[start:end] not in _NEVER_FIRST:
                yield word, cells
                word, cells = "", 0
            word, cells, is_wide = word + piece[start:end], cells + size, size > 1
        yield word, cells
