"""Profiles under load, from traces."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from caesura import cli
from caesura.engine.tracing.trace_events import TraceEvents
from caesura.errors import ConfigurationError
from caesura.lab.bench.stats import RunPlan
from caesura.lab.bench.traces import merge_traces, simulated_part
from caesura.lab.calibrate.iteration_fit import FIGURES, IterationSample
from caesura.lab.calibrate.trace_fit import fit_under_load
from caesura.lab.calibrate.trace_iterations import (
    LoadedIteration,
    policy_of,
    read_iterations,
    read_trace,
)
from caesura.lab.sim.profiles import device_profile
from caesura.lab.sim.simulate import plan_simulation
from caesura.lab.sim.simulated_run import simulate
from caesura.policy.profile import DEFAULT, MEASURED, DeviceProfile, attention_pairs
from simulations import SWAPPING
from support.work import lines_run

BASE = DeviceProfile(
    name="CPU",
    model="demo",
    measured=True,
    seconds_per_iteration=5e-3,
    seconds_per_query_token=1.6e-4,
    seconds_per_context_token=2e-6,
    seconds_per_sequence=3e-5,
    saturation_tokens=31,
    kv_bytes_per_token=12_288,
    link_bytes_per_second=5e9,
    link_overlaps=False,
    seconds_per_attention_pair=9e-8,
)
LOADED = replace(BASE, seconds_per_iteration=7e-3, seconds_per_sequence=9e-5)


@dataclass(frozen=True)
class Work:
    kind: str
    decodes: int
    chunk: int
    decode_context: int
    chunk_context: int
    copied_bytes: int = 0

    @property
    def sample(self) -> IterationSample:
        return IterationSample(
            self.decodes + self.chunk,
            self.decodes * self.decode_context + self.chunk + self.chunk_context,
            self.decodes + bool(self.chunk),
            attention_pairs(self.chunk, self.chunk_context),
            0.0,
        )

    def seconds(self, profile: DeviceProfile) -> float:
        x = self.sample
        seconds = profile.iteration_seconds(
            x.query_tokens, x.context_tokens, x.sequences, x.attention_pairs
        )
        return seconds + self.copied_bytes / profile.link_bytes_per_second


def works(count: int, copied_bytes: int = 0) -> list[Work]:
    found = []
    random = np.random.default_rng(0)
    for _ in range(count):
        kind = str(random.choice(["decode", "decode", "decode", "prefill", "mixed"]))
        found.append(
            Work(
                kind,
                0 if kind == "prefill" else int(random.integers(1, 17)),
                0 if kind == "decode" else int(random.integers(2, 512)),
                int(random.integers(20, 1000)),
                0 if kind == "decode" else int(random.integers(0, 2000)),
                copied_bytes if random.random() < 0.5 else 0,
            )
        )
    return found


def loaded(chosen: Sequence[Work], seconds: Sequence[float]) -> list[LoadedIteration]:
    return [
        LoadedIteration(work.kind, replace(work.sample, seconds=s), work.copied_bytes, True)
        for work, s in zip(chosen, seconds, strict=True)
    ]


def figures(profile: DeviceProfile) -> dict[str, float]:
    return {figure: getattr(profile, figure) for figure in FIGURES}


# The fit


@pytest.mark.parametrize("copied_bytes", [0, 10_000_000])
def test_constants_are_recovered_beside_copies(copied_bytes: int) -> None:
    chosen = works(500, copied_bytes)
    result = fit_under_load(loaded(chosen, [work.seconds(LOADED) for work in chosen]), BASE)
    assert figures(result.profile) == pytest.approx(figures(LOADED), rel=1e-6)
    assert result.scale == pytest.approx(1)
    assert result.profile.name == "CPU, under load"
    assert result.profile.kv_bytes_per_token == BASE.kv_bytes_per_token
    assert result.profile.link_bytes_per_second == BASE.link_bytes_per_second
    assert result.profile.saturation_tokens == round(7e-3 / 1.6e-4)
    assert not result.profile.defaults
    assert [group.kind for group in result.residuals] == ["decode", "prefill", "mixed", "all"]
    assert max(group.p90_error for group in result.residuals) < 1e-6
    assert result.residuals[-1].base_seconds < result.residuals[-1].seconds


def test_copies_beside_computation_are_not_subtracted() -> None:
    chosen = works(500, 10_000_000)
    seconds = [replace(work, copied_bytes=0).seconds(LOADED) for work in chosen]
    result = fit_under_load(loaded(chosen, seconds), replace(BASE, link_overlaps=True))
    assert figures(result.profile) == pytest.approx(figures(LOADED), rel=1e-6)


def test_the_mean_is_that_of_the_trace_through_noise_and_outliers() -> None:
    chosen = works(6000)
    seconds = np.array([work.seconds(LOADED) for work in chosen])
    seconds *= np.random.default_rng(1).gamma(12.0, 1 / 12, len(chosen))  # 29 % of noise, mean 1
    seconds[::80] *= 4.0  # delays: they belong to the mean
    seconds[::1000] = 5.0  # stalls: they do not
    result = fit_under_load(loaded(chosen, list(seconds)), BASE)
    assert result.stalls == 6
    assert result.stall_seconds == pytest.approx(30.0)
    whole = result.residuals[-1]
    assert whole.count == 5994
    assert whole.predicted_seconds == pytest.approx(whole.seconds, rel=1e-9)
    assert result.profile.seconds_per_iteration == pytest.approx(7e-3, rel=0.1)
    assert result.profile.seconds_per_query_token == pytest.approx(1.6e-4, rel=0.1)
    for group in result.residuals:
        assert group.predicted_seconds == pytest.approx(group.seconds, rel=0.05)


def test_ten_times_as_many_iterations_are_ten_times_the_work() -> None:
    def lines(times: int) -> int:
        chosen = works(500) * times
        noise = np.random.default_rng(1).normal(1.0, 0.1, len(chosen))
        seconds = [work.seconds(LOADED) * n for work, n in zip(chosen, noise, strict=True)]
        iterations = loaded(chosen, seconds)
        return lines_run(fit_under_load, iterations, BASE)

    few, many = lines(2), lines(20)
    assert many < 10 * few


def test_what_the_trace_says_nothing_about_is_a_default() -> None:
    chosen = [Work("prefill", 0, n, 0, k) for n in range(1, 500, 50) for k in range(0, 500, 50)]
    seconds = [work.seconds(LOADED) for work in chosen]
    profile = fit_under_load(loaded(chosen, seconds), BASE).profile
    assert profile.defaults == {"seconds_per_sequence"}
    assert profile.seconds_per_sequence == 0
    assert profile.seconds_per_iteration == pytest.approx(7.09e-3)


def test_a_trace_that_only_decodes_is_refused() -> None:
    chosen = [work for work in works(200) if work.kind == "decode"]
    with pytest.raises(ValueError, match="no prefill"):
        fit_under_load(loaded(chosen, [work.seconds(LOADED) for work in chosen]), BASE)


def test_a_knee_and_defaults_of_the_base_are_kept() -> None:
    chosen = works(200)
    iterations = loaded(chosen, [work.seconds(LOADED) for work in chosen])
    base = replace(BASE, name="CPU, under load", defaults=frozenset({"link_bytes_per_second"}))
    profile = fit_under_load(iterations, base, base_has_knee=True).profile
    assert profile.saturation_tokens == BASE.saturation_tokens
    assert profile.source("link_bytes_per_second") == DEFAULT
    assert profile.source("seconds_per_iteration") == MEASURED
    assert profile.name == "CPU, under load"


def test_too_few_iterations_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        fit_under_load(loaded(works(10), [0.01] * 10), BASE)


# The trace


def write_iterations(
    path: Path,
    chosen: Sequence[Work],
    *,
    overhead: float = 0.0,
    counters: bool = True,
    idle: Sequence[int] = (),
    name: str = "swap",
) -> None:
    """Iterations of `BASE`, `overhead` between them, and idleness after some."""
    events = TraceEvents(name, 0.0)
    events.name_track("iterations")
    now = 1.0
    for number, work in enumerate(chosen):
        x, seconds = work.sample, work.seconds(BASE)
        args = {
            "query_tokens": x.query_tokens,
            "prefill_tokens": work.chunk,
            "decode_tokens": work.decodes,
            "recomputed_tokens": 0,
            "requests": x.sequences,
            "context_tokens": int(x.context_tokens),
            "attention_pairs": int(x.attention_pairs),
            "copied_bytes": work.copied_bytes,
        }
        events.slice("iterations", "decode", now, now + seconds, args)
        now += seconds
        if counters:
            levels = {"running": int(number not in idle), "waiting": 0}
            events.levels("requests", now, levels)
        now += overhead
    events.write(path)


def test_the_time_between_iterations_back_to_back_is_included(tmp_path: Path) -> None:
    chosen = works(400)
    write_iterations(tmp_path / "trace.json", chosen, overhead=2e-3)
    iterations, rows = read_iterations(tmp_path / "trace.json")
    assert rows == ["swap"]
    assert [iteration.kind for iteration in iterations] == [work.kind for work in chosen]
    assert [i.back_to_back for i in iterations] == [True] * 399 + [False]
    profile = fit_under_load(iterations, BASE).profile
    expected = figures(BASE) | {"seconds_per_iteration": 7e-3}
    assert figures(profile) == pytest.approx(expected, rel=0.02, abs=1e-9)


@pytest.mark.parametrize(
    ("overhead", "counters", "back_to_back"),
    [(2e-3, True, True), (5e-3, True, True), (2e-3, False, True), (5e-3, False, False)],
)
def test_counters_say_what_is_back_to_back_else_the_gap_does(
    tmp_path: Path, overhead: float, counters: bool, back_to_back: bool
) -> None:
    chosen = works(4)
    path = tmp_path / "trace.json"
    write_iterations(path, chosen, overhead=overhead, counters=counters, idle=[1])
    iterations, _ = read_iterations(path)
    expected = [back_to_back, back_to_back and not counters, back_to_back, False]
    assert [iteration.back_to_back for iteration in iterations] == expected
    for work, iteration in zip(chosen, iterations, strict=True):
        seconds = work.seconds(BASE) + overhead * iteration.back_to_back
        assert iteration.sample.seconds == pytest.approx(seconds, abs=3e-6)


def merged(directory: Path, counts: dict[str, int]) -> Path:
    parts = {}
    for policy, count in counts.items():
        part = directory / f"{policy}.json"
        write_iterations(part, works(count), overhead=1e-3)
        parts[RunPlan(policy, seed=0, rate=2.0)] = part
    merge_traces(directory / "trace.json", parts)
    return directory / "trace.json"


def test_rows_are_chosen_by_policy(tmp_path: Path) -> None:
    path = merged(tmp_path, {"stock": 3, "swap": 4, "preserve": 5})
    assert len(read_iterations(path)[0]) == 12
    assert len(read_iterations(path, without=["stock"])[0]) == 9
    assert len(read_iterations(path, ["stock"], without=["stock"])[0]) == 3
    iterations, rows = read_iterations(path, ["swap"])
    assert (len(iterations), rows) == (4, ["swap rate 2 seed 0"])
    with pytest.raises(ValueError, match="no iterations of ttl in the trace; it has preserve"):
        read_iterations(path, ["ttl"])
    assert policy_of("min-waste rate 1.5 seed 0 (truncated)") == "min-waste"


def test_traces_of_other_shapes_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    write_iterations(path, works(3))
    events = list(read_trace(path))
    document = json.loads(path.read_text())
    assert events == document["traceEvents"]
    path.write_text(json.dumps(document, indent=1))
    assert list(read_trace(path)) == events
    for event in document["traceEvents"]:
        event.get("args", {}).pop("context_tokens", None)
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="lack context_tokens"):
        read_iterations(path)
    for text in ("{}", "no JSON"):
        path.write_text(text)
        with pytest.raises(ValueError, match="not a trace"):
            read_iterations(path)


def test_a_simulated_run_gives_its_own_profile_back(tmp_path: Path) -> None:
    gpt = device_profile("a100-80gb", "gpt-j-6b")
    profile = replace(gpt, link_overlaps=False, seconds_per_context_token=2e-8)
    profile = replace(profile, seconds_per_sequence=4e-5, seconds_per_attention_pair=2e-9)
    settings = SWAPPING.model_copy(update={"trace_path": tmp_path / "trace.json"})
    (planned,) = plan_simulation(settings, profile)
    simulate(planned)
    part = simulated_part(settings, planned.plan)
    assert part is not None
    iterations, _ = read_iterations(part)
    assert any(iteration.copied_bytes for iteration in iterations)
    result = fit_under_load(iterations, profile)
    assert figures(result.profile) == pytest.approx(figures(profile), rel=0.05)


# The command


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["caesura", "calibrate", *arguments])
    monkeypatch.setenv("COLUMNS", "160")
    cli.run(sys.argv[1:])


def test_the_command_writes_a_profile_that_the_simulator_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = merged(tmp_path, {"stock": 100, "swap": 300, "preserve": 300})
    base, made = tmp_path / "base.json", tmp_path / "out" / "loaded.json"
    BASE.save(base)
    arguments = ["trace", str(trace), "--base", str(base), "--json", str(made)]
    run_cli(monkeypatch, *arguments)
    profile = DeviceProfile.load(made)
    assert profile.name == "CPU, under load"
    assert profile.seconds_per_iteration == pytest.approx(6e-3, rel=0.02)
    document = json.loads(made.read_text())["calibration"]
    assert document["iterations"] == 600
    assert document["rows"] == ["swap rate 2 seed 0", "preserve rate 2 seed 0"]
    assert document["trace"] == "trace.json"
    printed = capsys.readouterr().out
    assert "600 iterations of swap rate 2 seed 0, preserve rate 2 seed 0" in printed
    for word in ("under load", "decode", "prefill", "mixed", "p90"):
        assert word in printed
    run_cli(monkeypatch, *arguments, "--policy", "swap")
    assert json.loads(made.read_text())["calibration"]["iterations"] == 300


def test_a_trace_without_a_base_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="--base"):
        run_cli(monkeypatch, "trace", "trace.json")
