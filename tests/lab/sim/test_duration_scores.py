"""How well a duration model predicts, pause by pause."""

import math

import numpy as np
import pytest

from caesura.lab.sim.duration_scores import ScoredDurations
from caesura.policy.duration import DurationModel

RNG_SEED = 20240207
LONG_MEMORY = 5000.0


def test_calibration_of_a_stationary_tool() -> None:
    calibration = ScoredDurations(LONG_MEMORY, elapsed_seconds=(0.0, 10.0, 1e6))
    for duration in np.random.default_rng(RNG_SEED).exponential(10.0, 4000):
        calibration.observe("tool", float(duration))
    at_start, at_ten = calibration.rows()
    assert (at_start.endpoint, at_start.elapsed_seconds, at_start.count) == ("tool", 0.0, 4000)
    assert at_ten.elapsed_seconds == 10.0
    assert at_ten.count == pytest.approx(4000 * math.exp(-1), rel=0.1)
    for row in (at_start, at_ten):
        assert row.actual_mean_seconds == pytest.approx(10.0, rel=0.1)
        assert row.predicted_mean_seconds == pytest.approx(10.0, rel=0.1)
        # the mean of an exponential is 1 / ln 2 of its median
        assert row.median_ratio == pytest.approx(1 / math.log(2), rel=0.1)
        assert row.below_median_share == pytest.approx(0.5, abs=0.05)


def test_calibration_shows_a_tool_that_became_faster() -> None:
    calibration = ScoredDurations(LONG_MEMORY, elapsed_seconds=(0.0,))
    for _ in range(100):
        DurationModel.observe(calibration, "tool", 10.0)
    for _ in range(20):
        calibration.observe("tool", 1.0)
    (row,) = calibration.rows()
    assert row.predicted_mean_seconds > 5.0
    assert row.actual_mean_seconds == 1.0
    assert row.median_ratio > 5.0
    assert row.below_median_share == 1.0


def test_calibration_scores_a_bounded_number_of_endpoints() -> None:
    calibration = ScoredDurations(elapsed_seconds=(0.0,), max_scored=2)
    for endpoint in ("a", "b", "c", "a"):
        calibration.observe(endpoint, 1.0)
    assert [(row.endpoint, row.count) for row in calibration.rows()] == [("a", 2), ("b", 1)]
