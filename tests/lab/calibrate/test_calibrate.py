import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.lab.calibrate.iteration_fit import (
    FIGURES,
    IterationSample,
    find_saturation,
    fit_iterations,
)
from caesura.lab.calibrate.measure import CopySample, copy_bandwidth
from caesura.policy.profile import MEASURED, DeviceProfile, attention_pairs
from support.forks import run_forked

CONSTANTS = dict(zip(FIGURES, (6e-3, 1.6e-4, 2e-6, 5e-5, 8e-8), strict=True))
PREFILLS = tuple(
    IterationSample(x, x, 1, attention_pairs(x, 0), 0) for x in (1, 16, 32, 64, 128, 256, 384, 512)
)
GRID = (
    *PREFILLS,
    *(IterationSample(512, 512 + k, 1, attention_pairs(512, k), 0) for k in (512, 1024, 3072)),
    *(IterationSample(n, n * k, n, 0, 0) for n in (1, 4, 16, 64) for k in (16, 128, 512)),
)


def timed(samples: Sequence[IterationSample], **constants: float) -> list[IterationSample]:
    """The samples with the times that the constants give them."""
    c, a, b, s, p = (constants.get(figure, 0.0) for figure in FIGURES)
    return [
        replace(
            x,
            seconds=c
            + a * x.query_tokens
            + b * x.context_tokens
            + s * x.sequences
            + p * x.attention_pairs,
        )
        for x in samples
    ]


def test_the_fit_recovers_the_constants() -> None:
    figures, defaults = fit_iterations(timed(GRID, **CONSTANTS))
    assert figures == pytest.approx(CONSTANTS)
    assert not defaults


@given(seed=st.integers(0, 2**32 - 1))
def test_the_fit_recovers_the_constants_through_noise(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(1.0, 0.02, len(GRID))
    samples = [
        replace(sample, seconds=sample.seconds * float(factor))
        for sample, factor in zip(timed(GRID, **CONSTANTS), noise, strict=True)
    ]
    figures, _ = fit_iterations(samples)
    for figure in ("seconds_per_iteration", "seconds_per_query_token"):
        assert figures[figure] == pytest.approx(CONSTANTS[figure], rel=0.15)


def test_no_figure_is_negative() -> None:
    samples = timed(GRID, **{**CONSTANTS, "seconds_per_sequence": -2e-5})
    figures, defaults = fit_iterations(samples)
    assert min(figures.values()) >= 0
    assert figures["seconds_per_sequence"] == 0
    assert not defaults


def test_figures_that_the_samples_say_nothing_about_are_defaults() -> None:
    alone = [sample for sample in GRID if sample.sequences == 1]
    figures, defaults = fit_iterations(timed(alone, **CONSTANTS))
    assert defaults == {"seconds_per_sequence"}
    assert figures["seconds_per_sequence"] == 0


def test_times_that_do_not_grow_are_refused() -> None:
    with pytest.raises(ValueError, match="do not grow"):
        fit_iterations(timed(GRID, seconds_per_iteration=0.01))


def test_a_knee_is_the_saturation_point() -> None:
    samples = [replace(s, seconds=0.01 + 1e-4 * max(0, s.query_tokens - 100)) for s in PREFILLS]
    saturation = find_saturation(samples, CONSTANTS)
    assert saturation.knee
    assert saturation.tokens == pytest.approx(100, abs=3)


def test_without_a_knee_it_is_where_tokens_cost_as_much_as_the_iteration() -> None:
    samples = timed(PREFILLS, seconds_per_iteration=6e-3, seconds_per_query_token=1.5e-4)
    figures, _ = fit_iterations(samples)
    saturation = find_saturation(samples, figures)
    assert not saturation.knee
    assert saturation.tokens == 40


def test_copies_are_timed_beside_what_each_batch_costs() -> None:
    copies = [
        CopySample(out, size, 1e-3 + size / (4e9 if out else 5e9))
        for out in (True, False)
        for size in (10**6, 10**7, 10**8)
    ]
    assert copy_bandwidth(copies, out=True) == pytest.approx(4e9)
    assert copy_bandwidth(copies, out=False) == pytest.approx(5e9)


@pytest.mark.engine
def test_the_demo_model_is_calibrated_on_the_real_engine(tmp_path: Path) -> None:
    profile_path = tmp_path / "profile.json"
    command = ["caesura", "calibrate", "--seconds", "2", "--kv-memory", "32MiB"]
    command += ["--json", str(profile_path), "--out", str(tmp_path)]
    # In a process of its own: the engine runs in it, and vLLM keeps process-wide state.
    done = run_forked(*command, environment=os.environ | {"COLUMNS": "120"})
    assert done.returncode == 0, done.stderr[-2000:]
    profile = DeviceProfile.load(profile_path)
    assert profile.model == "demo"
    assert profile.measured
    assert not profile.defaults
    assert {profile.source(figure) for figure in ("saturation_tokens", *FIGURES)} == {MEASURED}
    assert profile.kv_bytes_per_token == 2 * 4 * 384 * 4
    assert not profile.link_overlaps
    assert profile.iteration_seconds(512, 512, 1) > 2 * profile.iteration_seconds(1, 1, 1)
    assert "saturation point" in done.stdout
    assert (tmp_path / "calibration.png").read_bytes().startswith(b"\x89PNG")
    measured = json.loads(profile_path.read_text())["calibration"]
    assert {sample["sequences"] for sample in measured["fitted"]} >= {1, 4, 16}
