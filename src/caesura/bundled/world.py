"""What the demo's tools know, and how long they take to say it: all of it drawn from a seed."""

import hashlib
import os
import random
import re

from caesura.bundled.demo_tools import TOOL_BY_NAME, TOOLS, Kind, draw_value

SEED_VARIABLE = "CAESURA_DEMO_SEED"
"""Tells the seed to the processes of the tools."""

ARCHIVED = "9"
"""What the numbers of old orders begin with: how far they were is looked up in an archive."""

_ARCHIVE_FACTOR = 4.0
_JITTER = 0.15  # standard deviation of the logarithm
_MOST_JITTER = 1.5
_FORMS = {
    Kind.ITEM: re.compile(r"[A-Z]\d{4}"),
    Kind.ORDER: re.compile(r"\d{6}"),
    Kind.CONTACT: re.compile(r"[A-Z]{2}\d{2}"),
}


def is_unseen(value: str) -> bool:
    """Whether training never drew a value: one in ten, by its hash, as the laboratory does it."""
    return hashlib.sha256(value.encode()).digest()[0] % 10 == 0


class UnknownCode(LookupError):
    """There is nothing of this code."""


class World:
    """Answers that depend on nothing but a seed, a tool and its argument.

    So the processes of the tools need not share anything, the same call takes the same time in
    each mode, and answers can be checked with the seed alone.

    Args:
        seed: another one is another world.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    @classmethod
    def of_environment(cls) -> "World":
        """The world of the program that started this process."""
        return cls(int(os.environ.get(SEED_VARIABLE, "0")))

    def value(self, tool: str, code: str) -> str:
        """What a tool answers: a value that training never drew, but for the words of `status`.

        Raises:
            UnknownCode: this is no code of the kind that the tool takes.
        """
        takes = TOOL_BY_NAME[tool].takes
        if not _FORMS[takes].fullmatch(code):
            raise UnknownCode(f"there is no {takes.value} {code!r}")
        source = random.Random(f"{self._seed} value {tool} {code}")
        return draw_value(TOOL_BY_NAME[tool].returns, source, is_unseen)

    def seconds(self, tool: str, code: str) -> float:
        """How long it takes to answer: what is usual, with jitter."""
        source = random.Random(f"{self._seed} seconds {tool} {code}")
        jitter = source.lognormvariate(0, _JITTER)
        bounded = min(max(jitter, 1 / _MOST_JITTER), _MOST_JITTER)
        return usual_seconds(tool, code) * bounded


def usual_seconds(tool: str, code: str) -> float:
    """What the tool declares to take; several times that for the status of an archived order."""
    factor = _ARCHIVE_FACTOR if tool == "status" and code.startswith(ARCHIVED) else 1.0
    return TOOL_BY_NAME[tool].expected_seconds * factor


ENDPOINTS = {tool.name: tool.endpoint for tool in TOOLS}
"""What kind of endpoint runs each tool."""
