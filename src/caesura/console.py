"""Consoles and terminals on which a text of somebody else is nothing but a text."""

import re
import unicodedata
from functools import lru_cache
from typing import IO

from rich.console import Console

_LOST_RETURN = re.compile(r"\r+(?=\n|\Z)")
_JOINERS = "\u200c\u200d"  # emoji and several scripts are written with them
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
# Letters, marks and symbols that are blank: fillers, variation selectors, the empty Braille cell.
_BLANK = frozenset(
    map(
        chr,
        (
            *(0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)
_UNUSUAL = re.compile(r"[^\n -~]+")
_MOST_MARKS = 4  # on one character: a pile of them covers other lines


def plain_console(*, stderr: bool = False, file: IO[str] | None = None) -> Console:
    """A console that reads neither markup nor emoji codes in texts: `[bold]` and `:A:` are data.

    Text that is to have a style is given as `rich.text.Text`.

    Args:
        stderr: write to standard error instead of standard output.
        file: write to this buffer of what is written to a terminal.
    """
    is_terminal = None if file is None else True
    return Console(stderr=stderr, file=file, force_terminal=is_terminal, markup=False, emoji=False)


def printable(text: str) -> str:
    """The text without what would steer a terminal or the direction of reading.

    Control characters, invisible format characters and halves of surrogate pairs become �.
    """
    return "".join(map(_printable, _LOST_RETURN.sub("", text)))


@lru_cache(4096)
def _printable(character: str) -> str:
    is_shown = character in "\n\t" or character in _JOINERS
    if is_shown or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return character
    return "\N{REPLACEMENT CHARACTER}"


def visible(text: str) -> str:
    """The text with an escape, as JSON has it, for each character that is not seen as itself.

    Control characters, format characters (of the direction of reading among them), blanks other
    than the space, private and unassigned characters, and piles of combining marks. Line feeds
    stay. Unlike `printable`, for texts of which every character counts: somebody decides on them.
    """
    return _UNUSUAL.sub(_visible, text)


def _visible(unusual: re.Match[str]) -> str:
    shown, marks = [], 0
    for character in unusual[0]:
        marks = marks + 1 if unicodedata.category(character).startswith("M") else 0
        is_seen = marks <= _MOST_MARKS and _is_seen(character)
        shown.append(character if is_seen else _escaped(character))
    return "".join(shown)


@lru_cache(4096)
def _is_seen(character: str) -> bool:
    return unicodedata.category(character) not in _HIDDEN and character not in _BLANK


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
