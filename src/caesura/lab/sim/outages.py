"""Engines that go away during a simulation."""

import re
from dataclasses import dataclass
from enum import StrEnum


class OutageKind(StrEnum):
    """How an engine goes away."""

    FAIL = "fail"
    """At once: contexts and the outputs of the turns that run are lost."""
    DRAIN = "drain"
    """It takes no more turns, and finishes those that it has."""


@dataclass(frozen=True, slots=True, order=True)
class Outage:
    """One engine that goes away for good."""

    at_seconds: float
    engine: int
    kind: OutageKind


_MOMENT = re.compile(r"(\d+(?:\.\d+)?):(\d+)")


def parse_outage(text: str, kind: OutageKind) -> Outage:
    """An outage from a text such as "40:0": at 40 s, engine 0.

    Raises:
        ValueError: it is not one.
    """
    match = _MOMENT.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not SECONDS:ENGINE, such as 40:0 for the first engine after 40 s"
        )
    return Outage(float(match[1]), int(match[2]), kind)
