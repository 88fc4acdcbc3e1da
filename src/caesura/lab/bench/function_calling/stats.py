"""What runs say together: each mode by itself, and modes against each other."""

import statistics
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from caesura.lab.bench.function_calling.records import CaseRun
from caesura.lab.bench.function_calling.styles import Style

_RESAMPLES = 2000
_Figure = Callable[[CaseRun], float]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """One mode, order or policy over its correct runs. Times are seconds.

    Attributes:
        name: of the arm.
        runs, correct: how many there are.
        latency: of cases.
        mean_latency: of cases.
        generation, execution: mean G and E per call.
        token: mean time per token of a call.
        call_tokens: tokens per call, with markers.
        cml_tokens: markers, ids and traps per call.
        against_bound: latency / bound.
        calls_against_bound: the same without the answer.
    """

    name: str
    runs: int
    correct: int
    latency: Spread
    mean_latency: float
    generation: float
    execution: float
    token: float
    call_tokens: float
    cml_tokens: float
    against_bound: Spread
    calls_against_bound: Spread


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many times slower one arm is than another, paired by case and repetition.

    Attributes:
        slower, faster: the arms.
        pairs: how many.
        ratio: of latencies.
        low, high: 95 % interval of the ratio's median, by bootstrap over cases.
        of_means: ratio of the mean latencies.
        bound: median ratio of the bounds: what theory promises for the measured G and E.
    """

    slower: str
    faster: str
    pairs: int
    ratio: Spread
    low: float
    high: float
    of_means: float
    bound: float


def arm_name(run: CaseRun) -> str:
    """The mode; the policy where policies are compared; and an order that is not the usual."""
    if run.policy is not None:
        return run.policy
    return run.mode if run.order == "longest-first" else f"{run.mode}, {run.order} order"


def summaries(runs: Sequence[CaseRun]) -> list[ArmSummary]:
    """One for each arm that has a correct run, in order of appearance."""
    names = dict.fromkeys(map(arm_name, runs))
    found = []
    for name in names:
        of_arm = [run for run in runs if arm_name(run) == name]
        correct = [run for run in of_arm if run.correct]
        if correct:
            found.append(_summary(name, len(of_arm), correct))
    return found


def comparisons(runs: Sequence[CaseRun]) -> list[Comparison]:
    """Asynchronous mode against the others, longest first against other orders, and `sync` against
    each way to do better; where policies are compared, the first against the others."""
    names = list(dict.fromkeys(map(arm_name, runs)))
    of_policies = any(run.policy is not None for run in runs)
    best = names[0] if of_policies else Style.ASYNC.value
    pairs = [(name, best) for name in names if best in names and name != best]
    if Style.SYNC.value in names and not of_policies:
        others = [name for name in names if name not in (best, Style.SYNC, Style.REQUESTS)]
        pairs += [(Style.SYNC.value, name) for name in others if " " not in name]
    found = [compare(runs, slower, faster) for slower, faster in pairs]
    return [comparison for comparison in found if comparison is not None]


def compare(runs: Sequence[CaseRun], slower: str, faster: str) -> Comparison | None:
    """Two arms; None without a pair of correct runs."""
    of_slower, of_faster = (
        {_pair(run): run for run in runs if run.correct and arm_name(run) == name}
        for name in (slower, faster)
    )
    common = [(of_slower[key], of_faster[key]) for key in of_slower if key in of_faster]
    if not common:
        return None
    ratios = [first.latency_s / second.latency_s for first, second in common]
    low, high = _interval([first.case for first, _ in common], ratios)
    return Comparison(
        slower,
        faster,
        len(common),
        spread(ratios),
        low,
        high,
        sum(first.latency_s for first, _ in common) / sum(second.latency_s for _, second in common),
        statistics.median(first.bound_s / second.bound_s for first, second in common),
    )


def makespans(runs: Sequence[CaseRun]) -> dict[tuple[str, int], float]:
    """Latency of the last session, by policy and seed."""
    last: dict[tuple[str, int], float] = {}
    for run in runs:
        if run.policy is not None and run.seed is not None:
            key = run.policy, run.seed
            last[key] = max(last.get(key, 0.0), run.latency_s)
    return last


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of some values."""
    low, median, high = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return Spread(median, low, high)


def _pair(run: CaseRun) -> Hashable:
    return run.case, run.repetition, run.seed


def _interval(cases: Sequence[str], ratios: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the median, resampling cases with all their repetitions."""
    of_case: dict[str, list[float]] = {}
    for case, ratio in zip(cases, ratios, strict=True):
        of_case.setdefault(case, []).append(ratio)
    groups = list(of_case.values())
    random = np.random.default_rng(0)
    medians = []
    for _ in range(_RESAMPLES):
        drawn = random.integers(len(groups), size=len(groups))
        medians.append(np.median(np.concatenate([groups[index] for index in drawn])))
    low, high = (float(value) for value in np.percentile(medians, (2.5, 97.5)))
    return low, high


def _summary(name: str, runs: int, correct: Sequence[CaseRun]) -> ArmSummary:
    def of(figure: _Figure) -> list[float]:
        return [figure(run) for run in correct]

    calls = sum(run.calls for run in correct)
    call_tokens = sum(run.call_tokens for run in correct)
    generation = sum(of(lambda run: run.generation_s))
    return ArmSummary(
        name=name,
        runs=runs,
        correct=len(correct),
        latency=spread(of(lambda run: run.latency_s)),
        mean_latency=statistics.fmean(of(lambda run: run.latency_s)),
        generation=generation / calls,
        execution=sum(of(lambda run: run.execution_s)) / calls,
        token=generation / call_tokens,
        call_tokens=call_tokens / calls,
        cml_tokens=sum(run.cml_tokens for run in correct) / calls,
        against_bound=spread(of(lambda run: run.latency_s / run.bound_s)),
        calls_against_bound=spread(of(lambda run: run.calls_latency_s / run.bound_s)),
    )
