"""What reading a stream of CML costs, counted instead of timed: the same on every machine."""

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import caesura.cml
from caesura.cml.scanner import Scanner

_FOLDERS = (str(Path(caesura.cml.__file__).parent), str(Path(json.__file__).parent))
_FIND = Scanner.find.__code__


def effort(work: Callable[[], object]) -> int:
    """How much the functions of `caesura.cml`, and JSON's, have before them while this runs.

    Each call counts, and each character of the texts that it is given or that its object keeps:
    whatever a function does with a text of its own takes time of that order. A search counts up
    to what it finds.
    """
    total = 0

    def note(frame: FrameType, event: str, returned: object) -> None:
        nonlocal total
        if not frame.f_code.co_filename.startswith(_FOLDERS):
            return
        if event == "call" and frame.f_code is not _FIND:
            total += 1 + _characters(frame)
        elif event == "return" and frame.f_code is _FIND:
            arguments = frame.f_locals
            end = len(arguments["text"]) if returned is None else returned.end
            total += 1 + end - arguments["start"]

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
