"""What fluid engines learn of sessions: how long pauses last, how much is still to be generated."""

from collections import defaultdict
from dataclasses import dataclass

Stage = tuple[str | None, int]
"""What a session has come to: what it returned from, and for which time; or the size of its prompt
in powers of two."""

_TIMES = 3


@dataclass(slots=True)
class _Mean:
    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else 0.0


class Experience:
    """Means over the sessions of a fleet, whose engines share it."""

    def __init__(self) -> None:
        self._pauses: defaultdict[str | None, _Mean] = defaultdict(_Mean)
        self._remaining: defaultdict[Stage, _Mean] = defaultdict(_Mean)
        self._sessions = 0

    def pause_seconds(self, endpoint: str | None) -> float:
        """How long a pause lasts; 0 if nothing is known."""
        return self._pauses[endpoint].value

    def paused(self, endpoint: str | None, seconds: float) -> None:
        """A pause is over."""
        self._pauses[endpoint].add(seconds)

    def remaining_tokens(self, stage: Stage) -> float:
        """Tokens that a session generates from a stage on, weighed by how much is known."""
        confidence = self._sessions / (self._sessions + 1)
        return confidence * self._remaining[stage].value

    def ended(self, stages: dict[Stage, int], output_tokens: int) -> None:
        """A session is over, which had generated so many tokens when it came to its stages."""
        self._sessions += 1
        for stage, generated in stages.items():
            self._remaining[stage].add(output_tokens - generated)


def first_stage(prompt_tokens: int) -> Stage:
    """That of a session that arrives."""
    return None, prompt_tokens.bit_length()


def later_stage(endpoint: str | None, times: int) -> Stage:
    """That of a session that returns, for the `times`-th time."""
    return endpoint, min(times, _TIMES)
