"""What was sampled: fine for a while, coarse beyond."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float | None, ...]
"""A time, then a value per field; None where there was none."""


@dataclass(frozen=True, slots=True)
class Tier:
    """How much is kept.

    Attributes:
        interval_seconds: points are at least this far apart.
        points: so many at most, the newest.
    """

    interval_seconds: float
    points: int


FIFTEEN_MINUTES = Tier(interval_seconds=1.0, points=900)
SIX_HOURS = Tier(interval_seconds=10.0, points=2160)
_JITTER_SECONDS = 0.5


class OverviewHistory:
    """Points in time, in memory.

    Args:
        tiers: from fine to coarse. The finest takes every point.
    """

    def __init__(self, tiers: Sequence[Tier] = (FIFTEEN_MINUTES, SIX_HOURS)) -> None:
        self._tiers = tiers
        self._rings: list[deque[Point]] = [deque(maxlen=tier.points) for tier in tiers]

    def add(self, time_seconds: float, values: Sequence[float | None]) -> None:
        """Take the newest point. Coarser tiers leave points out and average none, so that totals
        stay totals."""
        point: Point = (time_seconds, *values)
        for position, (tier, ring) in enumerate(zip(self._tiers, self._rings, strict=True)):
            due_seconds = tier.interval_seconds - _JITTER_SECONDS
            if position == 0 or not ring or time_seconds - (ring[-1][0] or 0.0) >= due_seconds:
                ring.append(point)

    def since(self, time_seconds: float) -> list[Point]:
        """Points from a time on, the oldest first, each from the finest tier that has it."""
        found: list[Point] = []
        oldest_seconds = float("inf")
        for ring in self._rings:
            older = [p for p in ring if time_seconds <= (p[0] or 0.0) < oldest_seconds]
            found = [*older, *found]
            if ring:
                oldest_seconds = min(oldest_seconds, ring[0][0] or 0.0)
        return found
