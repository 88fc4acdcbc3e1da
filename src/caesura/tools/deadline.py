"""A time limit that progress extends, and that stands still while a human is waited for."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from caesura.tools.call import CallEnding
from caesura.tools.failure import AttemptFailed


class Deadline:
    """An async context that ends with `AttemptFailed` when its time is up.

    Args:
        limit_seconds: the time without progress, 0 for no limit.
        longest_seconds: the time with progress, 0 for no limit.
    """

    def __init__(self, limit_seconds: float, longest_seconds: float = 0) -> None:
        self._limit_seconds = limit_seconds
        self._longest_seconds = longest_seconds or math.inf
        self._started_seconds = self._paused_seconds = 0.0
        self._timeout = asyncio.timeout(limit_seconds or None)
        self._pauses = 0
        self._pause_began = 0.0
        self._ends: float | None = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._started_seconds = asyncio.get_running_loop().time()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._timeout.__aexit__(exc_type, exc, traceback)
        except TimeoutError:
            raise AttemptFailed(
                f"no result within {min(self._limit_seconds, self._longest_seconds):g} seconds",
                ending=CallEnding.TIMED_OUT,
                transient=True,
                is_uncertain=True,
            ) from None

    def extend(self) -> None:
        """There is progress: the time without it begins again."""
        if self._timeout.when() is not None and not self._timeout.expired():
            now = asyncio.get_running_loop().time()
            end = self._started_seconds + self._paused_seconds + self._longest_seconds
            self._timeout.reschedule(min(now + self._limit_seconds, end))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let time stand still inside; several may overlap."""
        loop = asyncio.get_running_loop()
        if self._pauses == 0:
            self._pause_began, self._ends = loop.time(), self._timeout.when()
            if self._ends is not None and not self._timeout.expired():
                self._timeout.reschedule(None)
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if self._pauses == 0:
                passed_seconds = loop.time() - self._pause_began
                self._paused_seconds += passed_seconds
                if self._ends is not None and not self._timeout.expired():
                    self._timeout.reschedule(self._ends + passed_seconds)
