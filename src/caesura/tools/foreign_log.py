"""What others say, in the log: in one line, and without what steers a terminal."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from caesura.console import printable
from caesura.tools.environment import redacted

_LONGEST = 2000


def log_foreign(
    log: logging.Logger,
    text: str,
    secrets: frozenset[str] = frozenset(),
    level: int = logging.WARNING,
) -> None:
    """Log a text that may come from a server or a tool."""
    shown = printable(redacted(text[: 2 * _LONGEST], secrets))[:_LONGEST]
    log.log(level, "%s", shown.replace("\n", "\\n"))


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
