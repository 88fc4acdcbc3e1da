"""How long a turn takes where nothing else runs: what waits and slowdowns are measured against."""

import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from caesura.lab.bench.replay import ReplayedTurn, ReplayRecord
from caesura.lab.bench.workload import Segment, WorkloadSession
from caesura.policy.profile import DeviceProfile, attention_pairs

_SHARES = (1 / 8, 1 / 2, 1.0)  # of the longest prompt
_ROUNDS = 3
_OUTPUT_TOKENS = 16


class Unloaded(Protocol):
    """Times of a turn that has the device for itself."""

    def prefill_seconds(self, new_tokens: int, computed_tokens: int) -> float:
        """Until the first output token: `new_tokens` are computed after `computed_tokens`."""
        ...

    def decode_seconds(self, output_tokens: int, context_tokens: int) -> float:
        """From the first output token to the last of `output_tokens`, after a context of
        `context_tokens`."""
        ...


@dataclass(frozen=True, slots=True)
class ProfiledTimes:
    """Of a device profile, one iteration after the other.

    Attributes:
        profile: the device with its model.
        max_batched_tokens: query tokens per iteration at most; longer prompts take several.
    """

    profile: DeviceProfile
    max_batched_tokens: int

    def prefill_seconds(self, new_tokens: int, computed_tokens: int) -> float:
        """See `Unloaded`."""
        seconds = 0.0
        stop = computed_tokens + new_tokens
        for first in range(computed_tokens, stop, self.max_batched_tokens):
            tokens = min(self.max_batched_tokens, stop - first)
            pairs = attention_pairs(tokens, first)
            seconds += self.profile.iteration_seconds(tokens, first + tokens, 1, pairs)
        return seconds

    def decode_seconds(self, output_tokens: int, context_tokens: int) -> float:
        """See `Unloaded`."""
        mean_context = context_tokens + output_tokens / 2
        return (output_tokens - 1) * self.profile.iteration_seconds(1, mean_context, 1)


@dataclass(frozen=True, slots=True)
class MeasuredTimes:
    """Lines through what probes took: prefills by new tokens, decoded tokens by context.

    Attributes:
        seconds_per_prefill, seconds_per_new_token: of a prefill, whatever it follows.
        seconds_per_output_token, seconds_per_context_token: of each token after the first.
    """

    seconds_per_prefill: float
    seconds_per_new_token: float
    seconds_per_output_token: float
    seconds_per_context_token: float

    def prefill_seconds(self, new_tokens: int, computed_tokens: int) -> float:
        """See `Unloaded`."""
        return self.seconds_per_prefill + self.seconds_per_new_token * new_tokens

    def decode_seconds(self, output_tokens: int, context_tokens: int) -> float:
        """See `Unloaded`."""
        mean_context = context_tokens + output_tokens / 2
        per_token = self.seconds_per_output_token + self.seconds_per_context_token * mean_context
        return (output_tokens - 1) * per_token

    @classmethod
    def of(cls, turns: Sequence[ReplayedTurn]) -> Self:
        """From turns that ran alone, of at least two prompt lengths; medians by length."""
        prefills: dict[int, list[float]] = {}
        decodes: dict[int, list[float]] = {}
        for turn in turns:
            assert turn.first_token_at is not None
            assert turn.finished_at is not None
            decoding = (turn.finished_at - turn.first_token_at) / (turn.output_tokens - 1)
            prefills.setdefault(turn.append_tokens, []).append(
                turn.first_token_at - turn.submitted_at
            )
            decodes.setdefault(turn.append_tokens + turn.output_tokens // 2, []).append(decoding)
        return cls(*_line(prefills), *_line(decodes))


def _line(seconds: dict[int, list[float]]) -> tuple[float, float]:
    """Intercept and slope through the medians, neither below 0."""
    medians = [statistics.median(values) for values in seconds.values()]
    slope, intercept = (float(figure) for figure in np.polyfit(list(seconds), medians, 1))
    if slope <= 0:
        return statistics.fmean(medians), 0.0
    return max(0.0, intercept), slope


async def measure_unloaded(
    play: Callable[[int, WorkloadSession], Awaitable[ReplayRecord]], max_context_tokens: int
) -> MeasuredTimes:
    """Run single turns one after the other.

    Args:
        play: runs one session of a number, with tokens that nobody has seen.
        max_context_tokens: what is measured goes up to this context.
    """
    longest = max(8, max_context_tokens - _OUTPUT_TOKENS)
    lengths = [max(1, round(longest * share)) for share in _SHARES] * _ROUNDS
    turns: list[ReplayedTurn] = []
    for number, length in enumerate(lengths):
        probe = WorkloadSession(f"alone{number}", "alone", (Segment(length, _OUTPUT_TOKENS),))
        record = await play(number, probe)
        turns += record.sessions[0].turns
    return MeasuredTimes.of(turns)
