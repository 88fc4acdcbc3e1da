"""Streams of events that clients read now, and how many of them one owner may have."""

from collections import Counter
from collections.abc import Callable

from caesura.session.errors import QuotaExceeded
from caesura.session.limits import Limits


class OpenStreams:
    """Counts streams by owner.

    Args:
        limits_of: the limits of an owner.
    """

    def __init__(self, limits_of: Callable[[str], Limits]) -> None:
        self._limits_of = limits_of
        self._open: Counter[str] = Counter()

    def open(self, owner: str) -> None:
        """One more stream; `close` it in the end.

        Raises:
            QuotaExceeded: the owner has too many.
        """
        most = self._limits_of(owner).streams_per_owner
        if self._open[owner] >= most:
            raise QuotaExceeded(f"{most} streams are open (sessions.streams_per_owner): close some")
        self._open[owner] += 1

    def of(self, owner: str) -> int:
        """How many an owner reads now."""
        return self._open[owner]

    async def close(self, owner: str) -> None:
        """A stream is over."""
        self._open[owner] -= 1
        if not self._open[owner]:
            del self._open[owner]
