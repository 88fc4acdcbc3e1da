"""The steps of an engine: which are under way, and when each began."""

from collections import deque


class Steps:
    """Steps under way. They end in the order in which they were scheduled.

    Attributes:
        taken: number of the step whose results were taken last.
    """

    def __init__(self) -> None:
        self.taken = 0
        self._scheduled: deque[tuple[int, float]] = deque()  # number, when it was scheduled
        self._ended_seconds = 0.0

    def schedule(self, number: int, now_seconds: float) -> None:
        """A step is scheduled; there may be steps under way."""
        self._scheduled.append((number, now_seconds))

    def take(self) -> float:
        """The results of the first step under way are taken. Returns when it was scheduled."""
        self.taken, scheduled_seconds = self._scheduled.popleft()
        return scheduled_seconds

    def end(self, scheduled_seconds: float, now_seconds: float) -> float:
        """Its results were taken. Returns when it began, which is when the one before it ended if
        that was under way when it was scheduled."""
        began = max(scheduled_seconds, self._ended_seconds)
        self._ended_seconds = now_seconds
        return began
