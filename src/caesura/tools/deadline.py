"""A time limit that stands still while a human is waited for."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from caesura.tools.call import CallEnding
from caesura.tools.failure import AttemptFailed


class Deadline:
    """An async context that ends with `AttemptFailed` when its time is up.

    Args:
        limit_seconds: the time, 0 for no limit.
    """

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._timeout = asyncio.timeout(limit_seconds or None)
        self._pauses = 0
        self._remaining_seconds: float | None = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
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
                f"no result within {self._limit_seconds:g} seconds",
                ending=CallEnding.TIMED_OUT,
                transient=True,
            ) from None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let time stand still inside; several may overlap."""
        when = self._timeout.when()
        now = asyncio.get_running_loop().time()
        if self._pauses == 0 and when is not None:
            self._remaining_seconds = when - now
            self._timeout.reschedule(None)
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if self._pauses == 0 and self._remaining_seconds is not None:
                self._resume(self._remaining_seconds)
                self._remaining_seconds = None

    def _resume(self, remaining_seconds: float) -> None:
        if not self._timeout.expired():
            now = asyncio.get_running_loop().time()
            self._timeout.reschedule(now + remaining_seconds)
