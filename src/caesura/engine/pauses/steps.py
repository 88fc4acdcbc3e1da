"""The steps of an engine: which are under way, and how many an interrupt waits for."""

from collections import deque
from dataclasses import dataclass, field

from caesura.engine.metrics import PauseMetrics


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


MOST_STEPS = 16  # counted together from there on


@dataclass(slots=True, eq=False)
class InterruptSteps:
    """Interrupts between the arrival of their tokens and the first token sampled after them."""

    metrics: PauseMetrics
    # By request: the last step that was scheduled before.
    _arrived: dict[str, int] = field(default_factory=dict, init=False)

    def arrived(self, request_id: str, step: int) -> None:
        """Tokens came for a session that generates; `step` was the last one to be scheduled."""
        self._arrived.setdefault(request_id, step)

    def seen(self, request_id: str, step: int) -> None:
        """`step` has sampled a token after all that was appended, if anything was."""
        arrived = self._arrived.pop(request_id, None)
        if arrived is not None:
            steps = min(step - arrived, MOST_STEPS)
            self.metrics.count("interrupts_seen", labels=(str(steps),))

    def forget(self, request_id: str) -> None:
        """The request is gone."""
        self._arrived.pop(request_id, None)

    def is_empty(self) -> bool:
        """Whether no interrupt is under way (integrity check)."""
        return not self._arrived
