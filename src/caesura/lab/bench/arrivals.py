"""Which sessions of a workload arrive when, over a time or up to a number."""

from collections.abc import Sequence
from dataclasses import dataclass

from caesura.lab.bench.presets import load_scaled
from caesura.lab.bench.workload import (
    WorkloadError,
    WorkloadSession,
    clip_context,
    poisson_arrivals,
)

_MANY = 50_000


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Sessions that arrive, with their times.

    Attributes:
        sessions, seconds: the sessions and when each arrives.
        truncated: how many lost turns that did not fit the context.
        dropped: how many more were left out because not even one turn did.
    """

    sessions: tuple[WorkloadSession, ...]
    seconds: tuple[float, ...]
    truncated: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class ArrivalPlan:
    """How sessions are drawn, the same for every policy.

    Attributes:
        workload: a preset or a trace, see `load_workload`.
        scale_tokens, scale_pauses: factors on lengths and pauses.
        max_context_tokens: sessions are truncated at the last turn that fits.
    """

    workload: str
    scale_tokens: float
    scale_pauses: float
    max_context_tokens: int

    def first(self, sessions: int, rate: float, seed: int) -> Arrivals:
        """The first so many sessions, as `caesura bench` draws them.

        Raises:
            WorkloadError: the workload cannot be used.
        """
        drawn = self._draw(sessions, seed)
        fitting = clip_context(drawn, self.max_context_tokens)
        times = poisson_arrivals(len(fitting.sessions), rate, seed)
        return Arrivals(fitting.sessions, tuple(times), fitting.truncated, fitting.dropped)

    def until(self, horizon_seconds: float, rate: float, seed: int) -> Arrivals:
        """All sessions that arrive before the horizon.

        Raises:
            WorkloadError: the workload cannot be used.
        """
        expected = rate * horizon_seconds
        # The more arrive, the nearer they are to their expectation; some may be dropped, too.
        wanted = int(expected * (1.5 if expected < _MANY else 1.02)) + 50
        while True:
            drawn = self._draw(wanted, seed)
            fitting = clip_context(drawn, self.max_context_tokens).sessions
            times = poisson_arrivals(len(fitting), rate, seed)
            if times[-1] >= horizon_seconds:
                break
            wanted *= 2
        times = [seconds for seconds in times if seconds < horizon_seconds]
        return _count_clipped(drawn, fitting[: len(times)], times)

    def _draw(self, sessions: int, seed: int) -> list[WorkloadSession]:
        drawn = load_scaled(
            self.workload,
            sessions,
            seed,
            tokens=self.scale_tokens,
            pauses=self.scale_pauses,
        )
        if all(session.segments[0].tokens > self.max_context_tokens for session in drawn):
            raise WorkloadError(
                f"no session of the workload fits a context of {self.max_context_tokens} tokens; "
                "scale lengths down, or give more KV memory"
            )
        return drawn


def _count_clipped(
    drawn: Sequence[WorkloadSession], kept: Sequence[WorkloadSession], seconds: Sequence[float]
) -> Arrivals:
    """What became of the sessions that were drawn up to the last one that arrives."""
    turns = {session.id: len(session.segments) for session in drawn}
    numbers = {session.id: number for number, session in enumerate(drawn, start=1)}
    return Arrivals(
        tuple(kept),
        tuple(seconds),
        truncated=sum(len(session.segments) < turns[session.id] for session in kept),
        dropped=numbers[kept[-1].id] - len(kept),
    )
