"""How well a duration model predicts. All times are seconds."""

from collections import deque
from dataclasses import dataclass, field
from statistics import median

from caesura.policy.duration import SHORTEST_SECONDS, DurationModel


@dataclass(frozen=True, slots=True)
class DurationScore:
    """Predicted against actual remaining time of one endpoint's pauses.

    Attributes:
        endpoint: which endpoint.
        elapsed_seconds: when the predictions are for: how long the pauses had lasted.
        count: pauses that lasted longer than that.
        predicted_mean_seconds: mean of the predictions.
        actual_mean_seconds: mean of what it was.
        median_ratio: median of predicted / actual, over the latest pauses.
        below_median_share: share of actual times below the predicted median. 0.5 is calibrated;
            more means that predictions are too long.
    """

    endpoint: str
    elapsed_seconds: float
    count: int
    predicted_mean_seconds: float
    actual_mean_seconds: float
    median_ratio: float
    below_median_share: float


class ScoredDurations(DurationModel):
    """A model that is scored on each pause that ended before it learns from it.

    Args:
        memory_observations: see `DurationModel`.
        elapsed_seconds: predictions are scored for pauses that have lasted this long.
        max_scored: endpoints beyond this many are learned but not scored.
    """

    def __init__(
        self,
        memory_observations: float = 256.0,
        elapsed_seconds: tuple[float, ...] = (0.0, 1.0, 10.0),
        max_scored: int = 1024,
    ) -> None:
        super().__init__(memory_observations)
        self._points = elapsed_seconds
        self._max_scores = max_scored * len(elapsed_seconds)
        self._scores: dict[tuple[str, float], _Score] = {}

    def observe(self, endpoint: str, seconds: float) -> None:
        """A pause ended after `seconds`: score what the model says, then let it learn."""
        for elapsed in self._points:
            if elapsed <= seconds:
                self._score(endpoint, elapsed, seconds - elapsed)
        super().observe(endpoint, seconds)

    def rows(self) -> list[DurationScore]:
        """One row per endpoint and elapsed time that occurred, sorted."""
        return [
            score.row(endpoint, elapsed)
            for (endpoint, elapsed), score in sorted(self._scores.items())
        ]

    def _score(self, endpoint: str, elapsed: float, remaining: float) -> None:
        score = self._scores.get((endpoint, elapsed))
        if score is None:
            if len(self._scores) >= self._max_scores:
                return
            score = self._scores[endpoint, elapsed] = _Score()
        score.add(
            self.expected_remaining_seconds(endpoint, elapsed),
            remaining,
            below_median=self.survival(endpoint, elapsed, remaining) > 0.5,
        )


_RATIOS = 1000  # the latest so many enter a median


@dataclass(slots=True)
class _Score:
    count: int = 0
    predicted_seconds: float = 0.0
    actual_seconds: float = 0.0
    below_median: int = 0
    ratios: deque[float] = field(default_factory=lambda: deque(maxlen=_RATIOS))

    def add(self, predicted: float, actual: float, *, below_median: bool) -> None:
        self.count += 1
        self.predicted_seconds += predicted
        self.actual_seconds += actual
        self.below_median += below_median
        self.ratios.append(max(predicted, SHORTEST_SECONDS) / max(actual, SHORTEST_SECONDS))

    def row(self, endpoint: str, elapsed: float) -> DurationScore:
        return DurationScore(
            endpoint,
            elapsed,
            self.count,
            self.predicted_seconds / self.count,
            self.actual_seconds / self.count,
            median(self.ratios),
            self.below_median / self.count,
        )
