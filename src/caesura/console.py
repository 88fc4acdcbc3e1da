"""Consoles and terminals on which a text of somebody else is nothing but a text."""

import re
import unicodedata
from functools import lru_cache
from typing import IO

from rich.console import Console

_LOST_RETURN = re.compile(r"\r+(?=\n|\Z)")
_JOINERS = "\u200c\u200d"  # emoji and several scripts are written with them


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
