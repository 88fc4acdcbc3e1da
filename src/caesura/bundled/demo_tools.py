"""The six tools that the demo model knows, and the values that they take and return."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Capitals in codes: all but I and O, which are mistaken for digits."""

STATUSES = (
    "new", "paid", "packed", "sent", "late", "lost", "held", "open", "closed", "returned",
    "cancelled", "delivered", "ready", "waiting", "refused", "stopped", "sorted", "shipped",
    "booked", "stored",
)  # fmt: skip


class Kind(Enum):
    """What a value is. Each is written in two or three tokens."""

    ITEM = "item"  # K4821
    ORDER = "order"  # 773412
    CONTACT = "contact"  # PQ27
    COUNT = "count"  # 4821
    NUMBER = "number"  # 401877
    STATUS = "status"  # packed


@dataclass(frozen=True, slots=True)
class DemoTool:
    """A tool of the demo.

    Attributes:
        name: its name.
        takes: its one argument; the parameter is named after it.
        returns: what its result is.
        expected_seconds: what it declares to take. Longest first is the order of issue.
        endpoint: what kind of endpoint runs it in the demo.
    """

    name: str
    takes: Kind
    returns: Kind
    expected_seconds: float
    endpoint: str

    @property
    def parameter(self) -> str:
        """Name of the argument."""
        return self.takes.value

    @property
    def head(self) -> str:
        """What a call's body begins with, up to the argument's value."""
        body = json.dumps({"name": self.name, "arguments": {self.parameter: ""}})
        return body.removesuffix(BODY_TAIL)


BODY_TAIL = '"}}'

TOOLS = (
    DemoTool("carrier", Kind.ORDER, Kind.CONTACT, 0.9, "mcp"),
    DemoTool("owner", Kind.ITEM, Kind.CONTACT, 0.7, "http"),
    DemoTool("phone", Kind.CONTACT, Kind.NUMBER, 0.5, "http"),
    DemoTool("status", Kind.ORDER, Kind.STATUS, 0.3, "mcp"),
    DemoTool("stock", Kind.ITEM, Kind.COUNT, 0.12, "python"),
    DemoTool("price", Kind.ITEM, Kind.COUNT, 0.05, "python"),
)
"""In order of issue."""

TOOL_BY_NAME = {tool.name: tool for tool in TOOLS}
CHAIN_STARTS = ("carrier", "owner")
CHAIN_END = "phone"


Accept: TypeAlias = Callable[[str], bool]
"""Whether a value may be drawn."""


def draw_value(kind: Kind, source: random.Random, accept: Accept, repeats: float = 0.0) -> str:
    """A random value.

    Args:
        kind: the kind of value.
        source: of randomness.
        accept: which values may be drawn; all of the few statuses may.
        repeats: how often a value is made to repeat a symbol.
    """
    if kind is Kind.STATUS:
        return source.choice(STATUSES)
    while True:
        parts = _parts(kind, source)
        if repeats and source.random() < repeats:
            _repeat(parts)
        value = "".join(parts)
        if accept(value):
            return value


def _parts(kind: Kind, source: random.Random) -> list[str]:
    """The tokens of a value."""

    def pair() -> str:
        return f"{source.randrange(100):02}"

    match kind:
        case Kind.ITEM:
            return [source.choice(LETTERS), pair(), pair()]
        case Kind.CONTACT:
            return [source.choice(LETTERS), source.choice(LETTERS), pair()]
        case Kind.COUNT:
            return [pair(), pair()]
        case Kind.ORDER | Kind.NUMBER:
            return [pair(), pair(), pair()]
        case Kind.STATUS:
            return [source.choice(STATUSES)]


def _repeat(parts: list[str]) -> None:
    """Make two neighbours of the same kind equal."""
    for i in range(1, len(parts)):
        if parts[i].isdigit() == parts[i - 1].isdigit():
            parts[i] = parts[i - 1]
            return
