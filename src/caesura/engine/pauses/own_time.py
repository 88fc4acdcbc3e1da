"""How much time of the engine's steps is Caesura's own, by part."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum
from types import TracebackType

from caesura.engine.metrics import PauseMetrics

logger = logging.getLogger(__name__)

SLOW_SECONDS = 0.1
"""A step with more than this of our own is logged."""

SILENCE_SECONDS = 60.0
"""One such step in this time is."""


class Part(StrEnum):
    """A part of Caesura's own work in a step."""

    DECIDE = "decide"  # about paused contexts
    DISPLACE = "displace"  # running requests, and limit what the iteration does
    RECLAIM = "reclaim"  # memory, for requests that lack it
    NAME = "name"  # the tools that an output calls
    SETTLE = "settle"  # sessions whose turn stopped, and copies
    REPORT = "report"  # metrics and traces


class OwnTime:
    """Measures parts. A part within another one counts for itself only.

    Args:
        metrics: are given what a step took, by part.
        clock: seconds.
    """

    def __init__(
        self, metrics: PauseMetrics, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._timed = {part: _Timed(self, part) for part in Part}
        self._seconds: dict[str, float] = {}
        self._open: list[Part] = []
        self._since_seconds = 0.0
        self._logged_seconds = float("-inf")

    def __call__(self, part: Part) -> AbstractContextManager[None]:
        """What is done within it is that part."""
        return self._timed[part]

    def end_step(self) -> None:
        """A step is over: note what it took, and log it if that was long."""
        seconds, self._seconds = self._seconds, {}
        self._metrics.note_step(seconds)
        total, now = sum(seconds.values()), self._clock()
        if total > SLOW_SECONDS and now - self._logged_seconds >= SILENCE_SECONDS:
            self._logged_seconds = now
            longest_first = sorted(seconds.items(), key=lambda item: -item[1])
            parts = ", ".join(f"{part} {spent:.3f}" for part, spent in longest_first)
            logger.warning("a step spent %.3f s on Caesura's own work: %s", total, parts)

    def _begin(self, part: Part) -> None:
        self._count()
        self._open.append(part)

    def _end(self) -> None:
        self._count()
        self._open.pop()

    def _count(self) -> None:
        """Time until now was the innermost part's."""
        now = self._clock()
        if self._open:
            part = self._open[-1]
            self._seconds[part] = self._seconds.get(part, 0.0) + now - self._since_seconds
        self._since_seconds = now


class _Timed(AbstractContextManager[None]):
    def __init__(self, own_time: OwnTime, part: Part) -> None:
        self._own_time = own_time
        self._part = part

    def __enter__(self) -> None:
        self._own_time._begin(self._part)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._own_time._end()
