"""What a replay says: latencies, throughput, tokens computed again, ratios to stock.

A figure that is not known is None, never a guess.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from caesura.lab.bench.arms import BASELINE
from caesura.lab.bench.engines import EngineCounters
from caesura.lab.bench.replay import ReplayedSession, ReplayEnding, ReplayRecord


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Median, mean and 90th percentile of some values; None of no values."""

    p50: float | None
    mean: float | None
    p90: float | None


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
        truncated_sessions: how many of them lost turns that did not fit the model's context.
        dropped_sessions: how many others were left out because not even one turn did.
        completed: how many finished all turns within the time limit.
        completed_per_second: completed sessions over the time from the first arrival to the
            last completion.
        normalized_latency_ms: per completed session, (end to end - pauses) / output tokens.
        resume_ttft_ms: from submission to first token, of each turn after a pause.
        scheduled_tokens: tokens that the engine computed.
        necessary_tokens: tokens that had to be computed once, see `necessary_tokens`.
        recomputed_tokens: scheduled beyond necessary.
        held_tokens, copied_tokens, loaded_tokens, pauses: see `EngineCounters`.
    """

    policy: str
    seed: int
    rate: float
    sessions: int
    truncated_sessions: int
    dropped_sessions: int
    completed: int
    completed_per_second: float | None
    normalized_latency_ms: Percentiles
    resume_ttft_ms: Percentiles
    scheduled_tokens: int | None
    necessary_tokens: int
    recomputed_tokens: int | None
    held_tokens: int | None
    copied_tokens: int | None
    loaded_tokens: int | None
    pauses: int | None


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
    """Median, mean and 90th percentile (linear between values)."""
    known = list(values)
    if not known:
        return Percentiles(None, None, None)
    p50, p90 = (float(value) for value in np.percentile(known, (50, 90)))
    return Percentiles(p50, statistics.fmean(known), p90)


def normalized_latency_ms(session: ReplayedSession) -> float | None:
    """(end to end - pauses as they were) / output tokens in ms, None if not completed."""
    finished_at = session.turns[-1].finished_at if session.turns else None
    if session.ending is not ReplayEnding.COMPLETED or finished_at is None:
        return None
    paused_seconds = sum(
        after.submitted_at - before.finished_at
        for before, after in zip(session.turns, session.turns[1:], strict=False)
        if before.finished_at is not None
    )
    output_tokens = sum(turn.output_tokens for turn in session.turns)
    return 1000 * (finished_at - session.arrived_at - paused_seconds) / output_tokens


def normalized_latencies_ms(replay: ReplayRecord) -> list[float]:
    """Normalized latency of each completed session."""
    latencies = map(normalized_latency_ms, replay.sessions)
    return [latency for latency in latencies if latency is not None]


def resume_ttfts_ms(replay: ReplayRecord) -> list[float]:
    """Time from submission to first token of each resumed turn that has one."""
    return [
        1000 * (turn.first_token_at - turn.submitted_at)
        for session in replay.sessions
        for turn in session.turns[1:]
        if turn.first_token_at is not None
    ]


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
    *,
    prompts_shared: bool = False,
    truncated_sessions: int = 0,
    dropped_sessions: int = 0,
) -> RunReport:
    """The figures of one run.

    `recomputed_tokens` is known only when the engine counts scheduled tokens, all sessions
    completed and no prompts were shared (prefix-cache hits would be subtracted from it).
    """
    completed = [s for s in replay.sessions if s.ending is ReplayEnding.COMPLETED]
    necessary = necessary_tokens(replay)
    scheduled = counters.scheduled_tokens
    everything_completed = len(completed) == len(replay.sessions)
    return RunReport(
        policy=plan.policy,
        seed=plan.seed,
        rate=plan.rate,
        sessions=len(replay.sessions),
        truncated_sessions=truncated_sessions,
        dropped_sessions=dropped_sessions,
        completed=len(completed),
        completed_per_second=_completed_per_second(replay, completed),
        normalized_latency_ms=percentiles(normalized_latencies_ms(replay)),
        resume_ttft_ms=percentiles(resume_ttfts_ms(replay)),
        scheduled_tokens=scheduled,
        necessary_tokens=necessary,
        recomputed_tokens=(
            max(0, scheduled - necessary)
            if scheduled is not None and everything_completed and not prompts_shared
            else None
        ),
        held_tokens=counters.held_tokens,
        copied_tokens=counters.copied_tokens,
        loaded_tokens=counters.loaded_tokens,
        pauses=counters.pauses,
    )


def _completed_per_second(
    replay: ReplayRecord, completed: Sequence[ReplayedSession]
) -> float | None:
    completions = [s.turns[-1].finished_at for s in completed]
    moments = [moment for moment in completions if moment is not None]
    if not moments:
        return None
    return len(moments) / (max(moments) - min(s.arrived_at for s in replay.sessions))


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times lower the mean normalized latency is than under stock.

    Attributes:
        median, low, high: over the seeds, each paired with stock's run of that seed.
        seeds: how many pairs.
        complete: whether all sessions of all these runs completed; if not, the ratio flatters
            whichever side left more unfinished.
    """

    median: float
    low: float
    high: float
    seeds: int
    complete: bool


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One policy at one rate, over its seeds: medians of the runs' figures.

    Attributes:
        sessions, completed: sums over the seeds.
        recomputed_share: of all scheduled tokens of all seeds.
        ratio: to stock, None without a pair of runs to compare.
    """

    policy: str
    rate: float
    seeds: int
    sessions: int
    completed: int
    normalized_latency_ms: Percentiles
    resume_ttft_ms: Percentiles
    completed_per_second: float | None
    recomputed_share: float | None
    ratio: Ratio | None


def policy_rows(runs: Sequence[RunReport]) -> list[PolicyRow]:
    """A row for each rate (ascending) and policy (in order of appearance)."""
    policies = dict.fromkeys(run.policy for run in runs)
    rows = []
    for rate in sorted({run.rate for run in runs}):
        at_rate = [run for run in runs if run.rate == rate]
        baseline = {run.seed: run for run in at_rate if run.policy == BASELINE}
        for policy in policies:
            of_policy = [run for run in at_rate if run.policy == policy]
            if of_policy:
                rows.append(_row(of_policy, baseline))
    return rows


def _row(runs: Sequence[RunReport], baseline: dict[int, RunReport]) -> PolicyRow:
    return PolicyRow(
        policy=runs[0].policy,
        rate=runs[0].rate,
        seeds=len(runs),
        sessions=sum(run.sessions for run in runs),
        completed=sum(run.completed for run in runs),
        normalized_latency_ms=_medians(runs, lambda run: run.normalized_latency_ms),
        resume_ttft_ms=_medians(runs, lambda run: run.resume_ttft_ms),
        completed_per_second=_median(run.completed_per_second for run in runs),
        recomputed_share=_recomputed_share(runs),
        ratio=_ratio(runs, baseline),
    )


def _medians(runs: Sequence[RunReport], figure: Callable[[RunReport], Percentiles]) -> Percentiles:
    return Percentiles(
        p50=_median(figure(run).p50 for run in runs),
        mean=_median(figure(run).mean for run in runs),
        p90=_median(figure(run).p90 for run in runs),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _recomputed_share(runs: Sequence[RunReport]) -> float | None:
    recomputed = scheduled = 0
    for run in runs:
        if run.recomputed_tokens is None or run.scheduled_tokens is None:
            return None
        recomputed += run.recomputed_tokens
        scheduled += run.scheduled_tokens
    return recomputed / scheduled if scheduled else None


def _ratio(runs: Sequence[RunReport], baseline: dict[int, RunReport]) -> Ratio | None:
    ratios = []
    complete = True
    for run in runs:
        stock = baseline.get(run.seed)
        if stock is None:
            continue
        stock_ms, policy_ms = stock.normalized_latency_ms.mean, run.normalized_latency_ms.mean
        if stock_ms and policy_ms:
            ratios.append(stock_ms / policy_ms)
            complete &= all(r.completed == r.sessions for r in (run, stock))
    if not ratios:
        return None
    return Ratio(statistics.median(ratios), min(ratios), max(ratios), len(ratios), complete)
