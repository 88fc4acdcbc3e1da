"""How much work something is, counted: the same on each machine, however busy it is."""

import sys
from collections.abc import Callable
from types import FrameType

LINE_SECONDS = 5e-8
"""What a line of our own code takes, about; 20 to 100 ns on the machines of today."""


def lines_run(function: Callable[..., object], *arguments: object) -> int:
    """How many lines of Python a call runs, each turn of a loop anew."""
    lines = 0

    def count(frame: FrameType, event: str, argument: object) -> Callable[..., object]:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        function(*arguments)
    finally:
        sys.settrace(before)
    return lines
