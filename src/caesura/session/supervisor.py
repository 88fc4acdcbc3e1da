"""Background tasks that go on for as long as the server runs: one that dies is started again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from prometheus_client import Counter

logger = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0

_restarts = Counter(
    "caesura_background_task_restarts", "Background tasks that died and were restarted.", ["task"]
)


class Supervisor:
    """Runs background tasks by name.

    Args:
        sleep: waits for seconds.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sleep = sleep
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, str] = {}

    def start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task until `stop`; it has no end of its own."""
        self._tasks[name] = asyncio.create_task(self._run(name, work), name=f"caesura-{name}")

    async def stop(self, name: str) -> None:
        """Cancel a task and wait for its end; nothing if there is none of that name."""
        if (task := self._tasks.pop(name, None)) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._failures.pop(name, None)

    def problems(self) -> list[str]:
        """Which tasks are down, and why."""
        return [f"{name} is down: {problem}" for name, problem in self._failures.items()]

    async def _run(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        loop = asyncio.get_running_loop()
        wait_seconds = FIRST_WAIT_SECONDS
        while True:
            begun_seconds = loop.time()
            try:
                await work()
                problem = "it has ended"
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
                logger.exception("the background task %s died; it is started again", name)
            if loop.time() - begun_seconds > LONGEST_WAIT_SECONDS:
                wait_seconds = FIRST_WAIT_SECONDS
            _restarts.labels(name).inc()
            self._failures[name] = problem
            await self._sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)
            self._failures.pop(name, None)
