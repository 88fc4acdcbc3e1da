"""Consoles on which every text is shown as it is written."""

from typing import IO

from rich.console import Console


def plain_console(*, stderr: bool = False, file: IO[str] | None = None) -> Console:
    """A console that reads neither markup nor emoji codes in texts: `[bold]` and `:A:` are data.

    Text that is to have a style is given as `rich.text.Text`.

    Args:
        stderr: write to standard error instead of standard output.
        file: write to this buffer of what is written to a terminal.
    """
    is_terminal = None if file is None else True
    return Console(stderr=stderr, file=file, force_terminal=is_terminal, markup=False, emoji=False)
