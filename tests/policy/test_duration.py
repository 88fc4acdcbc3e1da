"""What the durations of past pauses say about the rest of this one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caesura.policy.duration import DurationModel
from caesura.policy.progress import Progress, remaining_with_progress
from support.draws import examples
from support.work import lines_run

RNG_SEED = 20240207
LONG_MEMORY = 5000.0


def learned(durations, endpoint: str = "tool", memory: float = LONG_MEMORY) -> DurationModel:
    model = DurationModel(memory_observations=memory)
    for seconds in durations:
        model.observe(endpoint, float(seconds))
    return model


def rng() -> np.random.Generator:
    return np.random.default_rng(RNG_SEED)


def test_when_nothing_is_known_the_elapsed_time_is_the_estimate() -> None:
    model = DurationModel()
    for elapsed in (1e-4, 0.5, 3.0, 100.0, 1e5):
        assert model.expected_remaining_seconds("new", elapsed) == pytest.approx(elapsed)
    # the same rule as a distribution: Pareto, exponent 2
    assert model.survival("new", 10.0, 10.0) == pytest.approx(0.25)
    assert model.survival("new", 10.0, 0.0) == 1.0


def test_an_exponential_pause_has_no_memory() -> None:
    model = learned(rng().exponential(10.0, 5000))
    for elapsed in (0.0, 1.0, 5.0, 10.0, 20.0):
        assert model.expected_remaining_seconds("tool", elapsed) == pytest.approx(10.0, rel=0.15)
        assert model.survival("tool", elapsed, 10.0) == pytest.approx(math.exp(-1), abs=0.05)


def test_a_pareto_pause_grows_in_proportion_to_what_it_has_lasted() -> None:
    exponent = 3.0  # mean remaining time: elapsed / (exponent - 1)
    model = learned(rng().pareto(exponent, 5000) + 1.0)
    for elapsed in (1.0, 2.0, 4.0):
        assert model.expected_remaining_seconds("tool", elapsed) == pytest.approx(
            elapsed / 2, rel=0.2
        )
        assert model.survival("tool", elapsed, elapsed) == pytest.approx(2**-exponent, abs=0.04)


def test_a_log_normal_pause_grows_with_what_it_has_lasted() -> None:
    mu, sigma = math.log(0.85), 1.5

    def above(x: float) -> float:
        return 0.5 * math.erfc(x / math.sqrt(2))

    def expected(elapsed: float) -> float:
        z = (math.log(elapsed) - mu) / sigma
        return math.exp(mu + sigma**2 / 2) * above(z - sigma) / above(z) - elapsed

    model = learned(rng().lognormal(mu, sigma, 20_000), memory=20_000)
    elapsed_seconds = (0.1, 0.3, 1.0, 3.0, 10.0)
    estimates = [model.expected_remaining_seconds("tool", t) for t in elapsed_seconds]
    assert estimates == pytest.approx([expected(t) for t in elapsed_seconds], rel=0.2)
    assert estimates == sorted(estimates)


def test_a_punctual_tool_is_due_then_overdue() -> None:
    model = learned([10.0] * 50)
    assert model.expected_remaining_seconds("tool", 0.0) == pytest.approx(10.0, rel=0.1)
    assert model.expected_remaining_seconds("tool", 5.0) == pytest.approx(5.0, rel=0.15)
    assert model.expected_remaining_seconds("tool", 9.0) < 2.0  # a bin is 10 % wide
    late = [model.expected_remaining_seconds("tool", t) for t in (12.0, 30.0, 300.0)]
    assert late == pytest.approx([12.0, 30.0, 300.0])


def test_the_pool_speaks_for_an_endpoint_until_it_has_a_history() -> None:
    model = learned([20.0] * 200, endpoint="known")
    assert model.expected_remaining_seconds("new", 1.0) == pytest.approx(19.0, rel=0.1)
    estimates = []
    for _ in range(20):
        model.observe("new", 2.0)
        estimates.append(model.expected_remaining_seconds("new", 1.0))
    assert estimates == sorted(estimates, reverse=True)
    assert estimates[-1] < 3.0
    assert model.expected_remaining_seconds("known", 1.0) == pytest.approx(19.0, rel=0.1)


def test_a_pool_of_minutes_does_not_drown_a_tool_of_microseconds() -> None:
    model = learned([120.0] * 200, endpoint="human")
    for _ in range(30):
        model.observe("calculator", 8e-5)
    assert model.expected_remaining_seconds("calculator", 0.0) < 2e-4
    assert model.survival("calculator", 0.0, 1.0) < 0.05


def test_return_probability_is_learned_and_conditioned_on_elapsed() -> None:
    model = DurationModel(memory_observations=LONG_MEMORY)
    assert model.return_probability("human", 0.0) > 0.9
    for _ in range(100):
        for seconds in (5.0, 20.0, 40.0):
            model.observe("human", seconds)
        model.observe_gone("human", 1800.0)
        model.observe("tool", 1.0)
    assert model.return_probability("human", 0.0) == pytest.approx(0.75, abs=0.03)
    assert model.return_probability("human", 30.0) == pytest.approx(0.5, abs=0.05)
    assert model.return_probability("human", 100.0) < 0.1
    assert model.return_probability("tool", 0.0) > 0.95


def test_pauses_that_were_given_up_count_as_longer() -> None:
    """Exponential pauses of 10 s of which those over a random patience are given up."""
    generator = rng()
    model = DurationModel(memory_observations=LONG_MEMORY)
    for seconds, patience in zip(
        generator.exponential(10.0, 5000), generator.uniform(0.0, 60.0, 5000), strict=True
    ):
        if seconds < patience:
            model.observe("tool", float(seconds))
        else:
            model.observe_gone("tool", float(patience))
    assert model.expected_remaining_seconds("tool", 0.0) == pytest.approx(10.0, rel=0.1)
    assert model.survival("tool", 0.0, 10.0) == pytest.approx(math.exp(-1), abs=0.03)


def test_forgetting_follows_a_tool_that_changed() -> None:
    model = learned([30.0] * 1000, memory=100.0)
    for _ in range(400):
        model.observe("tool", 0.5)
    assert model.expected_remaining_seconds("tool", 0.0) < 1.5
    assert model.survival("tool", 0.0, 1.0) < 0.05


def test_the_endpoint_observed_least_recently_is_forgotten_first() -> None:
    model = DurationModel(max_endpoints=2)
    for endpoint, seconds in (("a", 100.0), ("b", 1.0), ("a", 100.0), ("c", 1.0)):
        model.observe(endpoint, seconds)
    known = model.expected_remaining_seconds("a", 0.0)
    forgotten = model.expected_remaining_seconds("b", 0.0)
    assert forgotten == model.expected_remaining_seconds("never seen", 0.0)
    assert known > forgotten


def test_answers_do_not_depend_on_when_they_are_asked() -> None:
    durations = rng().lognormal(0.0, 2.0, 200).tolist()
    asked, silent = DurationModel(), DurationModel()
    for seconds in durations:
        for model in (asked, silent):
            model.observe("tool", seconds)
        asked.expected_remaining_seconds("tool", 1.0)
    assert asked.expected_remaining_seconds("tool", 1.0) == silent.expected_remaining_seconds(
        "tool", 1.0
    )


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan])
def test_a_duration_is_finite_and_not_negative(seconds: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        DurationModel().observe("tool", seconds)


def test_a_progress_report_is_believed_as_far_as_it_has_come() -> None:
    half = Progress.from_fraction(10.0, 0.5)
    assert half.total_seconds == 20.0
    assert remaining_with_progress(100.0, 10.0, half) == pytest.approx(0.5 * 10 + 0.5 * 100)
    assert remaining_with_progress(100.0, 10.0, Progress.from_fraction(10.0, 0.0)) == 100.0
    nearly = Progress.from_fraction(19.0, 0.95)
    assert remaining_with_progress(100.0, 19.0, nearly) == pytest.approx(0.95 * 1 + 0.05 * 100)


def test_an_announced_end_holds_until_it_has_passed() -> None:
    announced = Progress.from_remaining(5.0, 60.0)
    assert remaining_with_progress(3.0, 5.0, announced) == 60.0
    assert remaining_with_progress(3.0, 64.0, announced) == pytest.approx(1.0)
    assert remaining_with_progress(3.0, 75.0, announced) == pytest.approx(10.0)


seconds = st.one_of(st.just(0.0), st.floats(1e-6, 1e5))
observations = st.lists(st.tuples(st.sampled_from(["a", "b"]), seconds, st.booleans()), max_size=40)


def learned_from(history) -> DurationModel:
    model = DurationModel()
    for endpoint, duration, returned in history:
        (model.observe if returned else model.observe_gone)(endpoint, duration)
    return model


@given(observations, st.sampled_from(["a", "b", "c"]), seconds, seconds, seconds)
def test_estimates_are_finite_and_probabilities_are_in_order(
    history, endpoint: str, elapsed: float, horizon: float, more: float
) -> None:
    model = learned_from(history)
    remaining = model.expected_remaining_seconds(endpoint, elapsed)
    assert 0.0 <= remaining < math.inf
    near = model.survival(endpoint, elapsed, horizon)
    far = model.survival(endpoint, elapsed, horizon + more)
    assert 0.0 <= far <= near + 1e-12
    assert near <= 1.0 + 1e-12
    assert model.survival(endpoint, elapsed, 0.0) == pytest.approx(1.0)
    assert -1e-12 <= model.return_probability(endpoint, elapsed) <= 1.0 + 1e-12


@settings(max_examples=examples(30))
@given(observations, st.floats(1e-3, 1e3))
def test_pooled_estimates_are_the_integral_of_survival(history, elapsed: float) -> None:
    model = learned_from(history)
    horizons = np.concatenate(([0.0], np.geomspace(1e-6, 1e9, 6000)))
    survival = [model.survival("unseen", elapsed, float(horizon)) for horizon in horizons]
    integral = float(np.trapezoid(survival, horizons))
    assert model.expected_remaining_seconds("unseen", elapsed) == pytest.approx(
        integral, rel=0.01, abs=1e-5
    )


def test_a_thousand_pauses_are_estimated_within_a_scheduler_step() -> None:
    model = DurationModel()
    generator = rng()
    for i, duration in enumerate(generator.lognormal(0.0, 2.0, 2000)):
        model.observe(f"tool-{i % 20}", float(duration))
    pauses = [(f"tool-{i % 25}", float(t)) for i, t in enumerate(generator.uniform(0, 60, 1000))]
    lines = [lines_run(model.expected_remaining_seconds, *pause) for pause in pauses]
    assert max(lines) < 50


def test_who_comes_back_after_all_was_not_given_up() -> None:
    model = learned([1.0] * 50)
    before, of_others = (model.return_probability(name, 0.0) for name in ("tool", "another"))
    for _ in range(10):
        model.observe_gone("tool", 5.0)
    assert model.return_probability("tool", 0.0) < 0.9 * before
    for _ in range(10):
        model.forget_gone("tool", 5.0)
    assert model.return_probability("tool", 0.0) == pytest.approx(before, abs=0.01)
    assert model.return_probability("another", 0.0) == pytest.approx(of_others, abs=0.01)
    model.forget_gone("tool", 5.0)
    model.forget_gone("never seen", 5.0)
    assert model.return_probability("tool", 0.0) <= 1.0


def test_the_usual_time_is_that_of_most_returns() -> None:
    assert DurationModel().usual_seconds("tool", 0.95) is None
    model = learned([*[1.0] * 90, *[20.0] * 10])
    assert model.usual_seconds("tool", 0.8) == pytest.approx(1.0, rel=0.11)
    assert model.usual_seconds("tool", 0.95) == pytest.approx(20.0, rel=0.11)
    model.observe_gone("tool", 1000.0)
    assert model.usual_seconds("tool", 0.95) == pytest.approx(20.0, rel=0.11)
    model.observe("new", 300.0)
    assert model.usual_seconds("new", 0.8) == pytest.approx(1.0, rel=0.11), "too few: as all"
