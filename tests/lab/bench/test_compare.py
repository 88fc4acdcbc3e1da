import asyncio
import json
import signal
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from caesura.lab.bench.compare import plan_runs
from caesura.lab.bench.run import run_bench
from caesura.lab.bench.settings import BenchSettings
from caesura.lab.bench.workload import WorkloadError
from support.engines.fleet import FakeRunningEngine, Fleet

names = st.lists(st.sampled_from("abcdef"), min_size=1, unique=True)
rates_of = st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=1, unique=True)
seeds_of = st.lists(st.integers(0, 5), min_size=1, unique=True)


@pytest.fixture
def settings(tmp_path: Path) -> BenchSettings:
    return BenchSettings(
        workload="tools",
        policies=("stock", "ours"),
        rates=(1000.0, 2000.0),
        seeds=(0, 1),
        sessions=3,
        scale_tokens=0.05,
        scale_pauses=0.0,
        json_path=tmp_path / "results.json",
        output_dir=tmp_path / "report",
    )


def quiet() -> Console:
    return Console(quiet=True)


@given(names, rates_of, seeds_of)
def test_every_policy_meets_every_rate_and_seed_once(
    policies: list[str], rates: list[float], seeds: list[int]
) -> None:
    runs = plan_runs(policies, rates, seeds)
    assert len(set(runs)) == len(runs) == len(policies) * len(rates) * len(seeds)


@given(names, rates_of, seeds_of)
def test_no_policy_is_first_more_than_once_more_than_another(
    policies: list[str], rates: list[float], seeds: list[int]
) -> None:
    runs = plan_runs(policies, rates, seeds)
    first = Counter(run.policy for run in runs[:: len(policies)])
    times = [first[policy] for policy in policies]
    assert max(times) - min(times) <= 1
    rounds = [runs[at : at + len(policies)] for at in range(0, len(runs), len(policies))]
    assert all(len({(run.seed, run.rate) for run in a_round}) == 1 for a_round in rounds)


def test_a_comparison_runs_all_and_writes_everything(settings: BenchSettings) -> None:
    fleet = Fleet()
    runs = run_bench(settings, fleet, command="caesura bench", console=quiet())
    assert [(run.seed, run.rate, run.policy) for run in runs] == [
        (0, 1000.0, "stock"),
        (0, 1000.0, "ours"),
        (0, 2000.0, "ours"),
        (0, 2000.0, "stock"),
        (1, 1000.0, "stock"),
        (1, 1000.0, "ours"),
        (1, 2000.0, "ours"),
        (1, 2000.0, "stock"),
    ]
    assert all(run.completed == run.sessions == 3 for run in runs)
    assert all(run.recomputed_tokens == 0 for run in runs)
    assert all(engine.resets == 4 for engine in fleet.engines.values())
    assert fleet.all_shut_down_once()
    assert settings.json_path is not None
    assert settings.output_dir is not None
    results = json.loads(settings.json_path.read_text(encoding="utf-8"))
    assert len(results["runs"]) == results["planned_runs"] == 8
    written = {file.name for file in settings.output_dir.iterdir()}
    plots = {"latency.png", "latency_ecdf.png", "rates.png", "timeline.png"}
    assert written == plots | {"report.md"}


def test_policies_replay_the_same_tokens(settings: BenchSettings) -> None:
    fleet = Fleet()
    last_round = settings.model_copy(update={"seeds": (0,), "rates": (1000.0,)})
    run_bench(last_round, fleet, command="caesura bench", console=quiet())
    stock, ours = (
        sorted(tuple(stream.transcript) for stream in engine.tokens.streams.values())
        for engine in fleet.engines.values()
    )
    assert stock == ours


def test_engines_are_shut_down_when_another_cannot_start(settings: BenchSettings) -> None:
    fleet = Fleet(fail_at="ours")
    with pytest.raises(RuntimeError, match="ours cannot start"):
        run_bench(settings, fleet, command="caesura bench", console=quiet())
    assert list(fleet.engines) == ["stock"]
    assert fleet.all_shut_down_once()


def test_ctrl_c_shuts_engines_down_and_keeps_what_was_measured(settings: BenchSettings) -> None:
    class InterruptedEngine(FakeRunningEngine):
        async def reset(self) -> None:
            await super().reset()
            if self.resets == 2:
                signal.raise_signal(signal.SIGINT)
                await asyncio.Event().wait()

    class InterruptedFleet(Fleet):
        async def __call__(self, policy: str) -> FakeRunningEngine:
            engine = self.engines[policy] = InterruptedEngine(policy)
            return engine

    fleet = InterruptedFleet()
    # A shell without job control starts background jobs with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_bench(settings, fleet, command="caesura bench", console=quiet())
    finally:
        signal.signal(signal.SIGINT, before)
    assert fleet.all_shut_down_once()
    assert settings.json_path is not None
    assert settings.output_dir is not None
    results = json.loads(settings.json_path.read_text(encoding="utf-8"))
    assert (len(results["runs"]), results["planned_runs"]) == (2, 8)
    report = (settings.output_dir / "report.md").read_text(encoding="utf-8")
    assert "Partial: 2 of 8 runs" in report


def test_sessions_that_do_not_fit_the_model_are_clipped_and_counted(
    settings: BenchSettings,
) -> None:
    runs = run_bench(
        settings, Fleet(max_context_tokens=120), command="caesura bench", console=quiet()
    )
    assert all(run.sessions + run.dropped_sessions == 3 for run in runs)
    assert any(run.truncated_sessions or run.dropped_sessions for run in runs)


def test_a_workload_that_does_not_fit_at_all_is_refused(settings: BenchSettings) -> None:
    fleet = Fleet(max_context_tokens=2)
    with pytest.raises(WorkloadError, match="scale lengths down"):
        run_bench(settings, fleet, command="caesura bench", console=quiet())
    assert fleet.all_shut_down_once()


def test_a_wrong_workload_is_refused_before_any_engine_starts(settings: BenchSettings) -> None:
    fleet = Fleet()
    wrong = settings.model_copy(update={"workload": "no-such-workload"})
    with pytest.raises(WorkloadError, match="presets are"):
        run_bench(wrong, fleet, command="caesura bench", console=quiet())
    assert not fleet.engines


def test_progress_names_the_run(settings: BenchSettings) -> None:
    console = Console(width=160, record=True, force_terminal=True, file=StringIO())
    run_bench(settings, Fleet(), command="caesura bench", console=console)
    text = console.export_text()
    assert "stock / policy" in text
    assert "8/8" in text
