"""What reading a stream of CML costs, counted instead of timed: the same on every machine."""

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import caesura.cml

_FOLDERS = (str(Path(caesura.cml.__file__).parent), str(Path(json.__file__).parent))


def effort(work: Callable[[], object]) -> int:
    """How much the functions of `caesura.cml`, and JSON's, have before them while this runs.

    Each call counts, and each character of the texts that it is given or that its object keeps:
    whatever a function does with a text of its own takes time of that order.
    """
    total = 0

    def note(frame: FrameType, event: str, returned: object) -> None:
        nonlocal total
        if not frame.f_code.co_filename.startswith(_FOLDERS):
            return
        if event == "call":
            total += 1 + _characters(frame)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return total


def _characters(frame: FrameType) -> int:
    arguments = inspect.getargvalues(frame)
    given = [arguments.locals[name] for name in arguments.args]
    kept = vars(given[0]).values() if arguments.args[:1] == ["self"] and _has_dict(given) else ()
    return sum(len(value) for value in (*given, *kept) if isinstance(value, str))


def _has_dict(given: list[object]) -> bool:
    return hasattr(given[0], "__dict__")
