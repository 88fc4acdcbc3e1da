"""Wall-clock time that nobody sets while it runs."""

import time
from collections.abc import Callable


def elapsed_seconds() -> float:
    """Seconds since some moment, those in which the machine was suspended among them."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class SteadyClock:
    """Seconds as the machine's clock had them when this one was made, and then as they passed.

    All that is stored has its times from one, so they rise, and a duration is their difference: a
    clock that is set, or that a machine comes back with, makes nothing older or younger. What the
    machine's clock has become holds from the next start on.

    Args:
        wall: the machine's clock, in seconds.
        elapsed: seconds since some moment, which nobody can set.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = elapsed_seconds,
    ) -> None:
        self._elapsed = elapsed
        self._start_seconds = wall() - elapsed()

    def __call__(self) -> float:
        """The time now."""
        return self._start_seconds + self._elapsed()
