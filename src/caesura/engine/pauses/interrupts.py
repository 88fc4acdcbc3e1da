"""How many steps of the engine pass until a session has seen what was injected."""

from caesura.engine.metrics import PauseMetrics

MOST_STEPS = 16  # counted together from there on


class InterruptSteps:
    """Interrupts between the arrival of their tokens and the first token sampled after them.

    Args:
        metrics: counts them by steps.
    """

    def __init__(self, metrics: PauseMetrics) -> None:
        self._metrics = metrics
        self._arrived: dict[str, int] = {}  # by request: the last step that was scheduled before

    def arrived(self, request_id: str, step: int) -> None:
        """Tokens came for a session that generates; `step` was the last one to be scheduled."""
        self._arrived.setdefault(request_id, step)

    def seen(self, request_id: str, step: int) -> None:
        """`step` has sampled a token after all that was appended, if anything was."""
        arrived = self._arrived.pop(request_id, None)
        if arrived is not None:
            steps = min(step - arrived, MOST_STEPS)
            self._metrics.count("interrupts_seen", labels=(str(steps),))

    def forget(self, request_id: str) -> None:
        """The request is gone."""
        self._arrived.pop(request_id, None)

    def is_empty(self) -> bool:
        """Whether no interrupt is under way (integrity check)."""
        return not self._arrived
