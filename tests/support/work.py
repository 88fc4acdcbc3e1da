"""How much work something is, counted: the same on each machine, however busy it is."""

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

LINE_SECONDS = 5e-8
"""What a line of our own code takes, about; 20 to 100 ns on the machines of today."""


def lines_run(function: Callable[..., object], *arguments: object) -> int:
    """How many lines of Python a call runs, each turn of a loop anew."""
    with lines_counted() as lines:
        function(*arguments)
    return lines()


@contextmanager
def lines_counted() -> Iterator[Callable[[], int]]:
    """Count the lines that this thread runs, coroutines among them, until it is left."""
    lines = 0

    def count(frame: FrameType, event: str, argument: object) -> Callable[..., object]:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        yield lambda: lines
    finally:
        sys.settrace(before)


@contextmanager
def most_memory() -> Iterator[Callable[[], int]]:
    """The most bytes that Python's objects have taken at once, beyond what they took before."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
