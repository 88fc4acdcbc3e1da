"""Python tools for tests."""

import asyncio
import functools
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BaseModel, Field

from caesura.tools import CallContext, ToolError
from support.waiting import pass_time

runs: list[str] = []
release = threading.Event()


class Unit(StrEnum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


class Place(BaseModel):
    city: str
    country: str = "NL"


@dataclass
class Weather:
    degrees: float
    unit: Unit


def weather(place: Place, unit: Unit = Unit.CELSIUS, days: int = 1) -> Weather:
    """The weather at a place.

    Longer explanation.

    Args:
        place: where.
        unit: of the temperature.
        days: from now.
    """
    return Weather(degrees=20.0 + days, unit=unit)


async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def bounded(share: Annotated[float, Field(ge=0, le=1)], copy: str = "x", schema: int = 0) -> str:
    return f"{share} {copy} {schema}"


def on_day(day: date) -> str:
    return day.strftime("%A")


def count(word: str) -> str:
    runs.append(word)
    return f"{word} {len(runs)}"


async def raises() -> None:
    raise KeyError("/etc/shadow")


def tells() -> None:
    raise ToolError("no such city; try another one")


async def exits() -> None:
    raise SystemExit(1)


def exits_in_thread() -> None:
    raise SystemExit(1)


def stops() -> None:
    raise StopIteration


async def hangs() -> None:
    runs.append("hangs")
    await asyncio.Event().wait()


def hangs_in_thread() -> str:
    runs.append("hangs in thread")
    release.wait()
    return "released"


def text(kind: str) -> object:
    return {
        "surrogate": "a\ud800b",
        "nul": "a\0b",
        "control": "a\x07b",
        "bytes": b"a\xffb",
        "long": "é" * 1000,
        "none": None,
        "infinite": float("inf"),
        "object": object(),
        "json": {"a": [1, date(2026, 1, 2)]},
    }[kind]


async def asks(context: CallContext) -> str:
    first = await context.ask("Which?", ["red", "blue"])
    second = await context.ask("Sure?")
    return f"{first}, {second}"


def asks_in_thread(context: CallContext) -> str:
    return context.ask_from_thread("Which?")


async def reports(context: CallContext) -> str:
    context.progress(0.5, "half", remaining_seconds=7)
    await asyncio.to_thread(context.progress, 2.0)
    await asyncio.sleep(0)
    return "done"


async def reports_nonsense(context: CallContext) -> str:
    for number in (math.nan, math.inf, -math.inf, 10**400):
        context.progress(number, None, number)
    context.progress(0.5, "half \ud800", remaining_seconds=-1)
    context.progress(None, None, remaining_seconds=Fraction(1, 2))
    return "done"


def search(query: str, limit: int = 10) -> dict[str, object]:
    """Search."""
    runs.append(f"search {query} {limit}")
    return {"results": [{"url": f"https://example.com/{query}", "rank": 1}], "limit": limit}


def fetch(url: str) -> str:
    """Fetch."""
    runs.append(f"fetch {url}")
    return f"page of {url}"


def untyped(a):  # type: ignore[no-untyped-def]
    return a


def variadic(*values: int) -> int:
    return sum(values)


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@traced
async def decorated(a: int, b: int) -> int:
    """Add."""
    return a + b


@traced
@traced
def decorated_in_thread(a: int, b: int) -> int:
    """Add."""
    return a + b


partial_add = functools.partial(add, b=2)


class Adder:
    async def __call__(self, a: int, b: int) -> int:
        """Add."""
        return a + b


adder = Adder()


def words(count: int) -> Iterator[str]:
    """Words."""
    for number in range(count):
        runs.append(f"word {number}")
        yield f"w{number} "


async def later_words(count: int) -> AsyncIterator[str]:
    """Words."""
    for number in range(count):
        runs.append(f"word {number}")
        await asyncio.sleep(0)
        yield f"w{number} "


def numbers(count: int) -> Iterator[int]:
    """Numbers."""
    return map(abs, range(count))


def titled(title: dict[str, str] = {"title": "x"}) -> str:  # noqa: B006
    return str(title)


def fails_late() -> Iterator[str]:
    """Fails."""
    yield "a"
    raise ToolError("the second piece is missing")


async def swallows() -> str:
    """Goes on though it is cancelled."""
    runs.append("swallows")
    while not swallowing_ends.is_set():
        try:
            await swallowing_ends.wait()
        except asyncio.CancelledError:
            runs.append("swallowed")
    return "late"


async def cancels_itself() -> str:
    """Raises what cancelling raises."""
    raise asyncio.CancelledError


swallowing_ends = asyncio.Event()


async def works(context: CallContext, reports: int) -> str:
    """Reports progress, then hangs."""
    for number in range(reports):
        await pass_time(50)
        context.progress(number / 100)
    await pass_time(5)
    return "done"
