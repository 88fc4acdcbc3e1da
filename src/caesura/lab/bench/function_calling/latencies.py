"""How long calls take: execution times that are drawn, the same in all modes."""

import math
from collections.abc import Callable
from random import Random

from caesura.errors import CaesuraError

Draw = Callable[[Random], float]
"""Draws an execution time in seconds."""

TYPICAL = "typical"
PAPER = "paper"
LONG_TAIL = "longtail"

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.030, 0.500
_TYPICAL_SCALE_SECONDS = 0.0815  # gives a mean of 110 ms
_TAIL_MEDIAN_SECONDS, _TAIL_DEVIATION = 0.080, 1.2
_TAIL_SHORTEST_SECONDS, _TAIL_LONGEST_SECONDS = 0.005, 5.0


class LatencyError(CaesuraError):
    """A text that names no distribution."""


def parse_latency(text: str) -> Draw:
    """The distribution of a name.

    * `typical`: 30 ms plus an exponential time, not above 500 ms; the mean is 110 ms.
    * `paper`: another name of it. The mean is AsyncLM's; the shape is an assumption.
    * `longtail`: lognormal with a median of 80 ms and sigma 1.2, from 5 ms to 5 s; the mean is
      165 ms, and one call in a hundred takes more than 1.3 s.
    * `uniform:A:B`: from A to B seconds.

    Raises:
        LatencyError: the text is none of them.
    """
    if text in (TYPICAL, PAPER):
        return _typical
    if text == LONG_TAIL:
        return _long_tail
    kind, _, bounds = text.partition(":")
    if kind == "uniform":
        return _uniform(text, bounds)
    raise _unknown(text)


def _typical(random: Random) -> float:
    """Exponential, truncated, by its inverse distribution function."""
    span = _LONGEST_SECONDS - _SHORTEST_SECONDS
    mass = -math.expm1(-span / _TYPICAL_SCALE_SECONDS)
    return _SHORTEST_SECONDS - _TYPICAL_SCALE_SECONDS * math.log1p(-random.random() * mass)


def _long_tail(random: Random) -> float:
    drawn = random.lognormvariate(math.log(_TAIL_MEDIAN_SECONDS), _TAIL_DEVIATION)
    return min(max(drawn, _TAIL_SHORTEST_SECONDS), _TAIL_LONGEST_SECONDS)


def _uniform(text: str, bounds: str) -> Draw:
    try:
        low, high = map(float, bounds.split(":"))
    except ValueError as error:
        raise _unknown(text) from error
    if not 0 <= low <= high < math.inf:
        raise _unknown(text)
    return lambda random: random.uniform(low, high)


def _unknown(text: str) -> LatencyError:
    return LatencyError(
        f"{text!r} is no distribution of execution times; use {TYPICAL}, {PAPER}, {LONG_TAIL} "
        "or uniform:A:B in seconds, such as uniform:0.03:0.5"
    )
