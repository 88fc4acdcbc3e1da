"""An event loop in virtual time: nothing sleeps, the clock jumps to what happens next."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class Stuck(RuntimeError):
    """All tasks wait for something that never happens."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`asyncio.sleep` and timeouts take no time; `time` says when it is.

    Nothing outside the loop, such as a thread or a socket, may be waited for.
    """

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("all tasks wait for something that never happens")
        self._loop.advance(max(0.0, timeout))
        return super().select(0)


def run_virtually(main: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine in virtual time.

    Raises:
        Stuck: it waits for something that never happens.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
