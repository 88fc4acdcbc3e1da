"""What others say, in the log: in one line, and without what steers a terminal."""

import logging
import os
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from caesura.console import printable, visible
from caesura.tools.environment import redacted

_LONGEST = 2000
_MOST_FRAMES, _MOST_LINES = 16, 100
_MARK = "  | "


def log_foreign(
    log: logging.Logger,
    text: str,
    secrets: frozenset[str] = frozenset(),
    level: int = logging.WARNING,
) -> None:
    """Log a text that may come from a server or a tool."""
    shown = printable(redacted(text[: 2 * _LONGEST], secrets))[:_LONGEST]
    log.log(level, "%s", shown.replace("\n", "\\n"))


def log_raised(
    log: logging.Logger,
    message: str,
    error: BaseException,
    secrets: frozenset[str] = frozenset(),
) -> None:
    """Log what a tool has raised, with its traceback.

    Each line stands behind a mark, so that none looks like one of the log. Characters that are not
    seen are shown as escapes, and what is long is cut in its middle.
    """
    told = traceback.TracebackException.from_exception(error, limit=-_MOST_FRAMES)
    lines = redacted("".join(told.format()), secrets).splitlines()
    if len(lines) > _MOST_LINES:
        half = _MOST_LINES // 2
        left_out = f"... {len(lines) - 2 * half} lines"
        lines = [*lines[:half], left_out, *lines[-half:]]
    shown = "".join(f"\n{_MARK}{_short(visible(line[: 2 * _LONGEST]))}" for line in lines)
    log.error("%s%s", _short(visible(message).replace("\n", "\\n")), shown)


def _short(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


@contextmanager
def logged_stream(log: logging.Logger, name: str, secrets: frozenset[str]) -> Iterator[TextIO]:
    """A file for a process's standard error, whose lines are logged."""
    reading, writing = os.pipe()

    def read() -> None:
        with open(reading, encoding="utf-8", errors="replace") as lines:
            while line := lines.readline(_LONGEST):
                if line.strip():
                    log_foreign(log, f"{name}: {line.rstrip()}", secrets, logging.INFO)

    threading.Thread(target=read, name=f"log of {name}", daemon=True).start()
    with open(writing, "w", encoding="utf-8") as file:
        yield file
