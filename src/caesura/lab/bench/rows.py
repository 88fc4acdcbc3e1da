"""Rows of a table: the runs of a policy at a rate, over its seeds."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

from caesura.lab.bench.arms import BASELINE
from caesura.lab.bench.engines import Waste
from caesura.lab.bench.stats import Percentiles, RunReport


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
        longest_wait_s: of all seeds.
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
    goodput_per_second: float | None
    first_ttft_ms: Percentiles
    completion_s: Percentiles
    longest_wait_s: float | None
    wait_context_correlation: float | None
    wait_length_correlation: float | None
    waste: Waste | None
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
        goodput_per_second=_median(run.goodput_per_second for run in runs),
        first_ttft_ms=_medians(runs, lambda run: run.first_ttft_ms),
        completion_s=_medians(runs, lambda run: run.completion_s),
        longest_wait_s=max(
            (run.longest_wait_s for run in runs if run.longest_wait_s is not None), default=None
        ),
        wait_context_correlation=_median(run.wait_context_correlation for run in runs),
        wait_length_correlation=_median(run.wait_length_correlation for run in runs),
        waste=_waste(runs),
        ratio=_ratio(runs, baseline),
    )


def _medians(runs: Sequence[RunReport], figure: Callable[[RunReport], Percentiles]) -> Percentiles:
    return Percentiles(
        **{
            field.name: _median(getattr(figure(run), field.name) for run in runs)
            for field in fields(Percentiles)
        }
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _waste(runs: Sequence[RunReport]) -> Waste | None:
    known = [run.waste for run in runs if run.waste is not None]
    if not known:
        return None
    return Waste(
        statistics.median(waste.held for waste in known),
        statistics.median(waste.recomputed for waste in known),
        statistics.median(waste.copied for waste in known),
    )


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
