"""Waiting without guessing for how long, and time that passes at once."""

import asyncio
import time
from collections.abc import Callable
from itertools import count

HANG_SECONDS = 300.0
"""After this long nothing will come any more, on any machine."""


def poll(condition: Callable[[], object], seconds: float = HANG_SECONDS) -> bool:
    """Ask another process until it holds; False if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


async def eventually(condition: Callable[[], object]) -> None:
    """Let others in this event loop run until it holds."""
    async with asyncio.timeout(HANG_SECONDS):
        for _ in count():
            if condition():
                return
            await asyncio.sleep(0)


async def think(seconds: float) -> None:
    """What a client of a random schedule does between its messages: nothing waits for it."""
    await asyncio.sleep(seconds)


async def pass_time(seconds: float) -> None:
    """Move the clock of this event loop on; what is due by then has happened when it returns."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign]
    for _ in range(3):  # timers, the tasks that they wake, and what those do
        await asyncio.sleep(0)
