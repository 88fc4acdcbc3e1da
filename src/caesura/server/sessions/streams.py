"""Streams of events that clients read now, and how many of them one owner may have."""

from collections import Counter

from caesura.session.errors import QuotaExceeded


class OpenStreams:
    """Counts streams by owner.

    Args:
        per_owner: the most that one owner may read at the same time.
    """

    def __init__(self, per_owner: int) -> None:
        self._per_owner = per_owner
        self._open: Counter[str] = Counter()

    def open(self, owner: str) -> None:
        """One more stream; `close` it in the end.

        Raises:
            QuotaExceeded: the owner has too many.
        """
        if self._open[owner] >= self._per_owner:
            raise QuotaExceeded(
                f"{self._per_owner} streams are open (sessions.streams_per_owner): close some"
            )
        self._open[owner] += 1

    def of(self, owner: str) -> int:
        """How many an owner reads now."""
        return self._open[owner]

    async def close(self, owner: str) -> None:
        """A stream is over."""
        self._open[owner] -= 1
        if not self._open[owner]:
            del self._open[owner]
