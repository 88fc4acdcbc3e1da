"""What a replay says: latencies, throughput, goodput, waits, tokens computed again.

A figure that is not known is None, never a guess.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from caesura.lab.bench.engines import EngineCounters, Waste
from caesura.lab.bench.replay import ReplayedSession, ReplayEnding, ReplayRecord
from caesura.lab.bench.service import (
    ServedSession,
    Yardstick,
    active_seconds,
    longest_wait_seconds,
    served,
    wait_context_correlation,
    wait_length_correlation,
)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Mean and percentiles of some values (linear between them); None of no values."""

    p50: float | None = None
    mean: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Seconds `[since, until)` of a replay in which sessions arrive that are measured."""

    since: float = 0.0
    until: float = math.inf

    def arrival_seconds(self, sessions: int, rate: float) -> float:
        """How long so many sessions took to arrive: without an end, their number over the rate."""
        return self.until - self.since if math.isfinite(self.until) else sessions / rate


ALL_ARRIVALS = Window()


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run of a comparison; `rate` is in sessions per second."""

    policy: str
    seed: int
    rate: float

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.policy}, {self.rate:g}/s, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class RunReport:
    """The figures of one run, under the names of the JSON contract.

    Attributes:
        policy, seed, rate: see `RunPlan`.
        sessions: how many were to be replayed.
        measured_sessions: those of them that arrived after the warm-up, which latencies, waits and
            goodput are of.
        truncated_sessions: how many of them lost turns that did not fit the model's context.
        dropped_sessions: how many others were left out because not even one turn did.
        completed: how many finished all turns within the time limit.
        completed_per_second: completed sessions over the time from the first arrival to the
            last completion.
        normalized_latency_ms: per completed session, (end to end - pauses) / output tokens.
        goodput_per_second: measured sessions that meet the objective (`ServiceGoal`), per second
            of their arrivals.
        first_ttft_ms, resume_ttft_ms: from submission to first token, of first turns, and of each
            turn after a pause.
        completion_s: per completed session, end to end less pauses.
        longest_wait_s, wait_context_correlation, wait_length_correlation: see
            `caesura.lab.bench.service`.
        scheduled_tokens: tokens that the engine computed.
        necessary_tokens: tokens that had to be computed once, see `necessary_tokens`.
        recomputed_tokens: scheduled beyond necessary.
        held_tokens, copied_tokens, loaded_tokens, pauses, waste: see `EngineCounters`.
    """

    policy: str
    seed: int
    rate: float
    sessions: int
    measured_sessions: int
    truncated_sessions: int
    dropped_sessions: int
    completed: int
    completed_per_second: float | None
    goodput_per_second: float | None
    normalized_latency_ms: Percentiles
    first_ttft_ms: Percentiles
    resume_ttft_ms: Percentiles
    completion_s: Percentiles
    longest_wait_s: float | None
    wait_context_correlation: float | None
    wait_length_correlation: float | None
    scheduled_tokens: int | None
    necessary_tokens: int
    recomputed_tokens: int | None
    held_tokens: int | None
    copied_tokens: int | None
    loaded_tokens: int | None
    pauses: int | None
    waste: Waste | None


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """One run: what was planned, what happened, what it says."""

    plan: RunPlan
    replay: ReplayRecord
    report: RunReport


def place_in(plans: Sequence[RunPlan]) -> Callable[[RunOutcome], int]:
    """Gives the place of a run among those that were planned."""
    places = {plan: number for number, plan in enumerate(plans)}
    return lambda outcome: places[outcome.plan]


def percentiles(values: Iterable[float]) -> Percentiles:
    """Mean and percentiles."""
    known = list(values)
    if not known:
        return Percentiles()
    p50, p90, p95, p99 = (float(value) for value in np.percentile(known, (50, 90, 95, 99)))
    return Percentiles(p50, statistics.fmean(known), p90, p95, p99)


def normalized_latency_ms(session: ReplayedSession) -> float | None:
    """(end to end - pauses as they were) / output tokens in ms, None if not completed."""
    seconds = active_seconds(session)
    if seconds is None:
        return None
    return 1000 * seconds / sum(turn.output_tokens for turn in session.turns)


def normalized_latencies_ms(replay: ReplayRecord) -> list[float]:
    """Normalized latency of each completed session."""
    latencies = map(normalized_latency_ms, replay.sessions)
    return [latency for latency in latencies if latency is not None]


def necessary_tokens(replay: ReplayRecord) -> int:
    """Tokens that had to be computed: appended and generated ones of all started turns.

    The last token of each session is sampled and never computed.
    """
    return sum(
        sum(turn.append_tokens + turn.output_tokens for turn in session.turns) - 1
        for session in replay.sessions
        if session.turns
    )


def measure(
    plan: RunPlan,
    replay: ReplayRecord,
    counters: EngineCounters,
    yardstick: Yardstick,
    *,
    arrivals: Window = ALL_ARRIVALS,
    truncated_sessions: int = 0,
    dropped_sessions: int = 0,
) -> RunReport:
    """The figures of one run.

    `recomputed_tokens` is known only when the engine counts scheduled tokens, all sessions
    completed and no prompts were shared (prefix-cache hits would be subtracted from it).

    Args:
        plan: which run.
        replay: all of its sessions.
        counters: what the engine counted.
        yardstick: what service is measured against.
        arrivals: of the sessions that latencies, waits and goodput are of.
        truncated_sessions: see `RunReport`.
        dropped_sessions: see `RunReport`.
    """
    completed = [s for s in replay.sessions if s.ending is ReplayEnding.COMPLETED]
    necessary = necessary_tokens(replay)
    scheduled = counters.scheduled_tokens
    everything_completed = len(completed) == len(replay.sessions)
    measured = arrived_in(replay, arrivals)
    sessions = [served(session, yardstick) for session in measured.sessions]
    good = sum(session.meets(yardstick.goal) for session in sessions)
    arrival_seconds = arrivals.arrival_seconds(len(sessions), plan.rate)
    return RunReport(
        policy=plan.policy,
        seed=plan.seed,
        rate=plan.rate,
        sessions=len(replay.sessions),
        measured_sessions=len(sessions),
        truncated_sessions=truncated_sessions,
        dropped_sessions=dropped_sessions,
        completed=len(completed),
        completed_per_second=_completed_per_second(replay, completed),
        goodput_per_second=good / arrival_seconds if sessions else None,
        normalized_latency_ms=percentiles(normalized_latencies_ms(measured)),
        first_ttft_ms=_ttfts_ms(sessions, slice(1)),
        resume_ttft_ms=_ttfts_ms(sessions, slice(1, None)),
        completion_s=percentiles(
            s.active_seconds for s in sessions if s.active_seconds is not None
        ),
        longest_wait_s=longest_wait_seconds(sessions),
        wait_context_correlation=wait_context_correlation(sessions),
        wait_length_correlation=wait_length_correlation(sessions),
        scheduled_tokens=scheduled,
        necessary_tokens=necessary,
        recomputed_tokens=(
            max(0, scheduled - necessary)
            if scheduled is not None and everything_completed and not yardstick.shared_prefix_tokens
            else None
        ),
        held_tokens=counters.held_tokens,
        copied_tokens=counters.copied_tokens,
        loaded_tokens=counters.loaded_tokens,
        pauses=counters.pauses,
        waste=counters.waste,
    )


def arrived_in(replay: ReplayRecord, window: Window) -> ReplayRecord:
    """The sessions that arrived in the window, whenever they were over."""
    since, until = (replay.started_at + moment for moment in (window.since, window.until))
    sessions = [s for s in replay.sessions if since <= s.arrived_at < until]
    return replace(replay, sessions=tuple(sessions))


def _ttfts_ms(sessions: Sequence[ServedSession], turns: slice) -> Percentiles:
    return percentiles(1000 * turn.ttft_seconds for s in sessions for turn in s.turns[turns])


def _completed_per_second(
    replay: ReplayRecord, completed: Sequence[ReplayedSession]
) -> float | None:
    completions = [s.turns[-1].finished_at for s in completed]
    moments = [moment for moment in completions if moment is not None]
    if not moments:
        return None
    return len(moments) / (max(moments) - min(s.arrived_at for s in replay.sessions))
