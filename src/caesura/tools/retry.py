"""Whether and when a failed attempt is repeated."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from caesura.tools.failure import AttemptFailed
from caesura.tools.settings import CommonSettings

LONGEST_BACKOFF_SECONDS = 60.0
# Whoever asks for a longer wait than this is not asked again.
LONGEST_RETRY_AFTER_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Where time and chance come from.

    Attributes:
        now: a clock that never goes back, in seconds.
        sleep: waits so many seconds.
        chance: a number from 0 to 1.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random


def retry_seconds(
    settings: CommonSettings, failure: AttemptFailed, attempt: int, chance: float
) -> float | None:
    """How long to wait before the next attempt, None if there is none.

    Args:
        settings: the tool's.
        failure: of the last attempt.
        attempt: its number, from 1.
        chance: from 0 to 1; shortens the wait, so that not all come back at once.
    """
    if attempt > settings.retries or not failure.transient:
        return None
    asked_seconds = failure.retry_after_seconds or 0.0
    if asked_seconds > LONGEST_RETRY_AFTER_SECONDS:
        return None
    doubled_seconds = settings.retry_backoff_seconds * 2.0 ** (attempt - 1)
    backoff_seconds = min(LONGEST_BACKOFF_SECONDS, doubled_seconds)
    return max(asked_seconds, backoff_seconds * (1 - chance / 2))
