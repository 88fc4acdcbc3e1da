"""The rate of the demo: by hand, and on simulated machines of different speeds."""

import asyncio
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest

from caesura.lab.bench.arrivals import Arrivals
from caesura.lab.bench.replay import ReplayedSession, ReplayedTurn, ReplayEnding, ReplayRecord
from caesura.lab.bench.stats import RunPlan, RunReport
from caesura.lab.bench.workload import Segment, WorkloadSession
from caesura.lab.demo.measuring import load_of, output_probe, output_seconds, prompt_seconds
from caesura.lab.demo.pauses import OURS, base_settings, outcome_sentences
from caesura.lab.demo.saturation import (
    RUNS_SECONDS,
    STOCK_LOAD,
    MeasuredLoad,
    SessionWork,
    TokenCosts,
    saturating_rate,
)
from caesura.lab.models.noise_model import demo_model_path
from caesura.lab.sim.settings import SimulationSettings
from caesura.lab.sim.simulate import plan_simulation
from caesura.lab.sim.simulated_run import simulate
from caesura.lab.sim.simulation import SimulatedRun, SimulatedRunReport, usable_kv_tokens
from caesura.policy.profile import DeviceProfile

TWO_TURNS = WorkloadSession("a", "math", (Segment(100, 20, 3.0), Segment(10, 40)))
ONE_TURN = WorkloadSession("b", "math", (Segment(30, 20),))
WORK = SessionWork.of([TWO_TURNS, ONE_TURN])
BASE = base_settings(Path("out"))


def test_the_work_of_a_session_is_counted() -> None:
    assert (WORK.prompt_tokens, WORK.output_tokens) == (70, 40)
    assert WORK.lost_tokens == 60  # 120 tokens after the pause of one of two
    assert WORK.paused_token_seconds == 180
    assert WORK.context_tokens == (20 * 110 + 40 * 150 + 20 * 40) / 80
    assert SessionWork.of([TWO_TURNS]).seconds_in_pauses == 3.0


def test_the_rate_is_that_at_which_lost_contexts_are_more_work_than_time() -> None:
    rate = saturating_rate(WORK, TokenCosts(prompt_seconds=0.001, output_seconds=0.01))
    assert rate.kept_seconds == pytest.approx(0.07 + 0.4)
    assert rate.thrashing_seconds == pytest.approx(0.47 + 0.06)
    assert rate.per_second * rate.thrashing_seconds == pytest.approx(STOCK_LOAD)
    assert rate.kept_load == pytest.approx(STOCK_LOAD * 0.47 / 0.53)
    assert rate.paused_tokens == pytest.approx(180 * rate.per_second)


def test_a_machine_that_is_twice_as_fast_gets_twice_the_rate() -> None:
    slow = saturating_rate(WORK, TokenCosts(0.002, 0.02)).per_second
    assert saturating_rate(WORK, TokenCosts(0.001, 0.01)).per_second == pytest.approx(2 * slow)


def probed(*turns: ReplayedTurn) -> ReplayRecord:
    sessions = [
        ReplayedSession("p", "probe", 0.0, (turn,), ReplayEnding.COMPLETED) for turn in turns
    ]
    return ReplayRecord(tuple(sessions), started_at=0.0, finished_at=2.0)


def test_probes_give_times_per_token() -> None:
    assert prompt_seconds(probed(*4 * [ReplayedTurn(250, 1, 0, 1, 2, None, None)])) == 0.002
    side_by_side = probed(*4 * [ReplayedTurn(9, 11, 0, 1.0, 2.0, None, None)])
    assert output_seconds(side_by_side) == pytest.approx(0.1 / 4)
    probe = output_probe(WORK, kv_tokens=450)
    assert len(probe) == 4
    assert {session.context_tokens for session in probe} == {round(WORK.context_tokens) + 32}


# On simulated machines: this one under load, a third as fast, and three times as fast.

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
MEASURED = DeviceProfile.load(RESULTS / "calibration_under_load.json")
SPEEDS = (1 / 3, 1.0, 3.0)


def machine(speed: float) -> DeviceProfile:
    """The measured machine with all its times divided."""
    times = [field.name for field in fields(MEASURED) if field.name.startswith("seconds_per_")]
    changed = {name: getattr(MEASURED, name) / speed for name in times}
    return replace(MEASURED, **changed)


def settings(rate: float, sessions: int, seeds: Sequence[int] = (0,)) -> SimulationSettings:
    shared = ("workload", "policies", "scale_tokens", "scale_pauses", "kv_memory_bytes")
    return SimulationSettings(
        **{name: getattr(BASE, name) for name in shared},
        host_memory_bytes=BASE.host_memory_bytes,
        rates=(rate,),
        seeds=tuple(seeds),
        sessions=sessions,
        device="measured",
        max_batched_tokens=512,
        max_seqs=64,
        block_size=32,
    )


@cache
def measured(speed: float) -> MeasuredLoad:
    """What the demo would measure on a machine of this speed."""
    profile, some = machine(speed), settings(1.0, 1)
    kv_tokens = usable_kv_tokens(some, profile)

    async def probe(sessions: Sequence[WorkloadSession]) -> ReplayRecord:
        arrivals = Arrivals(tuple(sessions), (0.0,) * len(sessions))
        plan, model = RunPlan("stock", 0, 1.0), str(demo_model_path())
        return simulate(SimulatedRun(plan, some, profile, model, arrivals, kv_tokens)).replay

    return asyncio.run(load_of(BASE, kv_tokens, probe))


@cache
def runs(speed: float, share: float = 1.0) -> list[SimulatedRunReport]:
    """The demo's runs on such a machine, at a share of the rate that was chosen."""
    load = measured(speed)
    chosen = settings(share * load.rate.per_second, load.sessions, load.seeds)
    return [simulate(run).report for run in plan_simulation(chosen, machine(speed))]


def ratios(reports: Sequence[RunReport]) -> list[float]:
    """Mean latency of stock over ours, by seed."""
    mean = {(r.policy, r.seed): r.normalized_latency_ms.mean or 0.0 for r in reports}
    return [mean["stock", seed] / mean[OURS, seed] for policy, seed in mean if policy == OURS]


def recomputed(reports: Sequence[RunReport], policy: str) -> float:
    ours = [report for report in reports if report.policy == policy]
    again = sum(report.recomputed_tokens or 0 for report in ours)
    return again / sum(report.scheduled_tokens or 0 for report in ours)


@pytest.mark.parametrize("speed", SPEEDS)
def test_stock_saturates_at_the_rate_and_caesura_does_not(speed: float) -> None:
    assert min(ratios(runs(speed))) > 2.5
    assert recomputed(runs(speed), "stock") > 0.5
    assert recomputed(runs(speed), OURS) < 0.2


@pytest.mark.parametrize("speed", SPEEDS)
def test_at_a_quarter_of_the_rate_there_is_less_to_see(speed: float) -> None:
    chosen, quarter = runs(speed), runs(speed, share=0.25)
    for ratio, lower in zip(ratios(chosen), ratios(quarter), strict=True):
        assert ratio > 1.5 * lower
    assert recomputed(quarter, "stock") < 0.7 * recomputed(chosen, "stock")


def test_the_rate_follows_the_speed_of_the_machine() -> None:
    slow, usual, fast = (measured(speed).rate.per_second for speed in SPEEDS)
    assert usual / slow == pytest.approx(3, rel=0.05)
    assert fast / usual == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("speed", SPEEDS)
def test_the_runs_keep_to_their_time(speed: float) -> None:
    seconds = [report.simulated_seconds for report in runs(speed)]
    assert sum(seconds) < 1.1 * RUNS_SECONDS
    assert max(seconds) < 1.5 * measured(speed).run_seconds


def test_a_slow_machine_runs_one_seed_and_says_why_it_runs_what() -> None:
    assert [measured(speed).seeds for speed in SPEEDS] == [(0,), (0, 1), (0, 1)]
    said = " ".join(measured(1.0).sentences())
    assert f"{measured(1.0).rate.per_second:.2f} sessions/s arrive: 1.2 s of work" in said
    assert f"room for {measured(1.0).kv_tokens}" in said


def test_what_was_gained_is_said_and_that_nothing_was() -> None:
    (gained,) = outcome_sentences(runs(1.0))
    assert "times lower with Caesura, at the rate that was chosen" in gained
    alike = [replace(runs(1.0)[0], policy=policy) for policy in ("stock", OURS)]
    (nothing,) = outcome_sentences(alike)
    assert nothing.startswith("Nothing was gained here: mean latency per token is 1.00 times")
    assert list(outcome_sentences(runs(1.0)[:1])) == []
