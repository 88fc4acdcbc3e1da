import json
import sys
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import ValidationError

from caesura import cli
from caesura.lab.bench.arms import simulated_names
from caesura.lab.bench.stats import RunReport, Window, arrived_in, necessary_tokens
from caesura.lab.machine import this_machine
from caesura.lab.sim.profiles import device_profile
from caesura.lab.sim.settings import SimulationSettings
from caesura.lab.sim.simulate import plan_simulation, simulated_machine
from caesura.lab.sim.simulated_run import (
    BlockNames,
    completed_per_second,
    engine_settings,
    simulate,
    simulated,
)
from caesura.lab.sim.simulation import SimulatedOutcome
from caesura.lab.sim.vllm_decodes import ShortcutScheduler
from support.lab.bench_records import completed_session, cut_session, replay_of

PROFILE = device_profile("a100-80gb", "gpt-j-6b")
SETTINGS = SimulationSettings(
    workload="infercept-sample",
    policies=("stock",),
    rates=(6.0,),
    seeds=(0,),
    device="a100-80gb",
    horizon_seconds=10.0,
    warmup_seconds=2.0,
    scale_tokens=0.25,
    scale_pauses=0.5,
    kv_memory_bytes=3 * 10**9,
    host_memory_bytes=4 * 10**9,
)
AMPLE = 40 * 10**9
NEW_FIGURES = {
    "computed_tokens",
    "durations",
    "engines",
    "moved_turns_share",
    "router",
    "simulated_seconds",
    "steps",
}
COMMAND = [
    "simulate", "--workload", "infercept-sample", "--rates", "6", "--seeds", "0",
    "--horizon", "10", "--warmup", "2", "--scale-tokens", "0.25", "--scale-pauses", "0.5",
    "--kv-memory", "3GB", "--host-memory", "4GB",
]  # fmt: skip


@cache
def outcome(policy: str, kv_memory_bytes: int = SETTINGS.kv_memory_bytes) -> SimulatedOutcome:
    return fresh(policy, kv_memory_bytes=kv_memory_bytes)


def fresh(policy: str, **changes: object) -> SimulatedOutcome:
    settings = SETTINGS.model_copy(update={"policies": (policy,), **changes})
    (run,) = plan_simulation(settings, PROFILE)
    return simulate(run)


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["caesura", *COMMAND, *arguments])
    cli.run(sys.argv[1:])


def test_the_memory_of_these_tests_is_too_small() -> None:
    stock = outcome("stock").report
    assert stock.completed == stock.sessions
    assert stock.recomputed_tokens is not None
    assert stock.scheduled_tokens is not None
    assert stock.recomputed_tokens > 0.1 * stock.scheduled_tokens


@pytest.mark.parametrize("policy", ["stock", "stock-host", "preserve", "swap"])
def test_a_run_is_the_same_each_time(policy: str) -> None:
    first, second = outcome(policy), fresh(policy)
    assert first.report == second.report
    assert first.replay == second.replay


@pytest.mark.parametrize("policy", ["stock", "stock-no-cache", "preserve", "swap"])
def test_the_shortcut_for_decodes_changes_nothing(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_shortcut = outcome(policy)
    monkeypatch.setattr(ShortcutScheduler, "decode_shortcut", False)
    assert fresh(policy).replay == with_shortcut.replay
    assert fresh(policy).report == with_shortcut.report


def test_infinite_never_computes_anything_twice() -> None:
    report = outcome("infinite").report
    assert report.recomputed_tokens == 0
    assert report.scheduled_tokens == report.necessary_tokens
    assert not report.loaded_tokens


def test_with_ample_memory_all_that_keep_contexts_are_alike() -> None:
    whole = {"scale_tokens": 1.0, "kv_memory_bytes": AMPLE}
    infinite = fresh("infinite", **whole).report.normalized_latency_ms.mean
    for policy in ("preserve", "min-waste", "ttl"):  # swap gives partly filled blocks up
        mean = fresh(policy, **whole).report.normalized_latency_ms.mean
        assert mean == pytest.approx(infinite, rel=0.01), policy


def test_stock_without_prefix_caching_computes_every_context_again() -> None:
    assert outcome("stock-no-cache").report.scheduled_tokens > (
        outcome("stock", AMPLE).report.scheduled_tokens or 0
    )


def test_host_memory_is_used_by_those_who_have_it() -> None:
    for policy in ("stock-host", "swap"):
        report = outcome(policy).report
        assert report.copied_tokens
        assert report.loaded_tokens
        assert (report.recomputed_tokens or 0) < (outcome("stock").report.recomputed_tokens or 0)
    assert outcome("stock").report.loaded_tokens is None


def test_latencies_are_of_the_sessions_that_arrive_after_the_warm_up() -> None:
    arrived = [completed_session(at, latency_seconds=1.0) for at in (0.0, 1.9, 2.0, 9.9, 10.0)]
    measured = arrived_in(replay_of(*arrived), Window(2.0, 10.0))
    assert [session.arrived_at for session in measured.sessions] == [2.0, 9.9]


def test_throughput_is_of_completions_in_the_window_whoever_they_are_of() -> None:
    # Each takes its latency and a pause of 1 s.
    sessions = [completed_session(at, latency_seconds=1.0) for at in (-0.1, 0.0, 7.9, 8.0)]
    record = replay_of(*sessions, cut_session(3.0))
    assert completed_per_second(record, Window(2.0, 10.0)) == pytest.approx(2 / 8)


def test_all_sessions_of_the_window_are_measured_and_all_are_run_to_their_end() -> None:
    whole = outcome("preserve")
    assert whole.report.completed == whole.report.sessions
    assert whole.report.measured_sessions == len(whole.replay.sessions) < whole.report.sessions
    assert min(session.arrived_at for session in whole.replay.sessions) >= 2.0
    assert whole.report.simulated_seconds > 10.0
    assert whole.report.steps > 100


def test_a_closed_number_of_sessions_is_measured_whole() -> None:
    report = fresh("preserve", sessions=12).report
    assert report.sessions == report.measured_sessions == report.completed == 12


def test_policies_run_the_same_sessions() -> None:
    settings = SETTINGS.model_copy(update={"policies": ("stock", "swap"), "seeds": (0, 1)})
    first, second, other, _ = plan_simulation(settings, PROFILE)
    assert first.arrivals == second.arrivals
    assert first.arrivals != other.arrivals


def test_memory_is_what_vllm_would_make_of_it() -> None:
    (run,) = plan_simulation(SETTINGS, PROFILE)
    block_bytes = 16 * PROFILE.kv_bytes_per_token
    assert engine_settings(run).num_blocks == SETTINGS.kv_memory_bytes // block_bytes - 1
    assert run.max_context_tokens == engine_settings(run).kv_tokens


def test_where_copies_cannot_overlap_contexts_are_loaded_in_the_step() -> None:
    settings = SETTINGS.model_copy(update={"policies": ("swap",)})
    for overlaps in (True, False):
        (run,) = plan_simulation(settings, replace(PROFILE, link_overlaps=overlaps))
        config = engine_settings(run).caesura
        assert config is not None
        assert config.load_in_step is not overlaps
    report = simulate(run).report
    assert report.completed == report.sessions
    assert report.loaded_tokens


def test_host_memory_may_be_more_than_this_machine_has() -> None:
    assert fresh("swap", host_memory_bytes=10**12, sessions=3).report.completed == 3


def test_a_shared_prefix_is_shared_by_class_up_to_the_last_token_of_a_prompt() -> None:
    (run,) = plan_simulation(SETTINGS.model_copy(update={"scale_tokens": 1.0}), PROFILE)
    by_kind = sorted(run.arrivals.sessions, key=lambda session: session.kind)
    one, two = next(pair for pair in pairwise(by_kind) if pair[0].kind == pair[1].kind)
    hashes = BlockNames(
        SETTINGS.model_copy(update={"shared_prefix_tokens": 64}),
        {"a": one, "b": two, "c": replace(one, kind="other")},
    )
    assert hashes("a", 0) == hashes("b", 0) != hashes("c", 0)
    shared = min(64, one.segments[0].append_tokens - 1) // 16
    assert hashes("a", shared) != hashes("b", shared)


def test_the_machine_says_what_was_simulated() -> None:
    machine = simulated_machine(this_machine(), PROFILE, [outcome("stock")])
    assert machine.simulated == "gpt-j-6b on a100-80gb, profile: measured"
    assert "seconds_per_sequence" in machine.profile_defaults
    assert machine.steps == outcome("stock").report.steps
    roofline = device_profile("h200", "llama-3.1-8b")
    assert "default" in simulated_machine(this_machine(), roofline, []).simulated


def test_the_command_gives_the_same_figures_from_two_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    arguments = ("--json", str(path), "--out", str(tmp_path / "out"), "--processes", "2")
    run_cli(monkeypatch, "--policies", "stock,swap", *arguments)
    results = json.loads(path.read_text("utf-8"))
    assert results["planned_runs"] == 2
    stock, swap = results["runs"]
    for written, policy in ((stock, "stock"), (swap, "swap")):
        report = outcome(policy).report
        assert written.keys() == {*RunReport.__dataclass_fields__, *NEW_FIGURES}
        assert written["normalized_latency_ms"]["mean"] == report.normalized_latency_ms.mean
        assert written["scheduled_tokens"] == report.scheduled_tokens
        assert written["steps"] == report.steps
    assert results["machine"]["simulated"].startswith("gpt-j-6b on a100-80gb")
    assert results["machine"]["steps_per_second"] > 0
    assert results["settings"]["copy_budget_bytes"] == 64 * 2**20
    written_files = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert written_files == ["latency_ecdf.png", "rates.png", "report.md"]
    assert "sessions arrive for 10 s" in (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "steps per second" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--device", "a100"), "unknown device"),
        (("--model", "gpt-5"), "unknown model"),
        (("--policies", "stock,hope"), "unknown policy 'hope'"),
        (("--workload", "nowhere.jsonl"), "neither a file nor a preset"),
        (("--policies", "swap", "--host-memory", "0"), "'swap' needs host memory"),
        (("--policies", "stock-host", "--host-memory", "0"), "'stock-host' needs host memory"),
        (("--policies", "preserve", "--policy-option", "hope=1"), "an option 'hope'"),
        (("--warmup", "10"), "leaves nothing"),
        (("--kv-memory", "1MB"), "does not hold two blocks"),
        (("--link", "fast"), "not a size"),
    ],
)
def test_what_cannot_be_simulated_is_refused_before_anything_runs(
    arguments: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=reason):
        run_cli(monkeypatch, *arguments)


def test_by_default_everything_is_compared() -> None:
    assert simulated_names()[:3] == ("stock", "stock-no-cache", "stock-host")
    assert simulated_names()[-1] == "infinite"
    assert {"discard", "preserve", "swap", "ttl"} < set(simulated_names())


@pytest.mark.parametrize("changes", [{"horizon_seconds": 0}, {"sessions": 0}, {"link": 1}])
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SimulationSettings.model_validate({**SETTINGS.model_dump(), **changes})


SHORT = 10**9
POLICIES = ("stock", "stock-no-cache", "stock-host", "preserve", "swap", "infercept", "min-waste")


@pytest.mark.parametrize("policy", POLICIES)
def test_waste_is_in_shares_and_only_of_what_a_policy_does(policy: str) -> None:
    report = outcome(policy, SHORT).report
    assert report.waste is not None
    waste = report.waste
    shares = (waste.held, waste.recomputed, waste.copied)
    assert all(share >= 0 for share in shares)
    assert sum(shares) <= 1
    assert waste.recomputed > 0
    assert (waste.held > 0) is (not policy.startswith("stock"))
    assert (waste.copied > 0) is bool(report.loaded_tokens)


def test_infinite_memory_is_only_held() -> None:
    waste = outcome("infinite").report.waste
    assert waste is not None
    assert waste.held > waste.recomputed == waste.copied == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_whatever_is_scheduled_beyond_once_is_counted_as_recomputed(policy: str) -> None:
    settings = SETTINGS.model_copy(update={"policies": (policy,), "kv_memory_bytes": SHORT})
    (run,) = plan_simulation(settings, PROFILE)
    (engine,), record = simulated(run)
    counted = engine.counts()["recomputed_tokens"]
    assert counted == engine.scheduled_tokens - necessary_tokens(record) > 0
