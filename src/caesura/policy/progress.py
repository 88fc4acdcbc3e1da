"""Reports of progress on what a pause waits for. All times are seconds."""

from dataclasses import dataclass

_LEAST_FRACTION = 1e-6  # a smaller one carries no weight, and would overflow as a divisor


@dataclass(frozen=True, slots=True)
class Progress:
    """A report on the progress of what a pause waits for.

    Attributes:
        total_seconds: length of the pause according to the report.
        confidence: weight of that against the learned expectation, 0 to 1.
    """

    total_seconds: float
    confidence: float

    @classmethod
    def from_fraction(cls, elapsed_seconds: float, fraction: float) -> "Progress":
        """A share of the work was done after `elapsed_seconds`: extrapolated linearly, and
        believed as far as it has come (`confidence = fraction`, cut to 0 to 1)."""
        fraction = min(1.0, max(0.0, fraction))
        elapsed_seconds = max(0.0, elapsed_seconds)
        if fraction < _LEAST_FRACTION:
            return cls(elapsed_seconds, 0.0)
        return cls(elapsed_seconds / fraction, fraction)

    @classmethod
    def from_remaining(cls, elapsed_seconds: float, remaining_seconds: float) -> "Progress":
        """The tool named its remaining time, after `elapsed_seconds`: believed fully."""
        return cls(max(0.0, elapsed_seconds) + max(0.0, remaining_seconds), 1.0)


def remaining_with_progress(
    expected_seconds: float, elapsed_seconds: float, progress: Progress
) -> float:
    """Remaining seconds at `elapsed_seconds`, from a learned expectation and the latest report.

    Up to the announced end the report says `total - elapsed`; past it, the elapsed-time rule
    holds for the delay: `elapsed - total`.
    """
    announced_seconds = abs(progress.total_seconds - elapsed_seconds)
    return progress.confidence * announced_seconds + (1.0 - progress.confidence) * expected_seconds
