"""What is learned of how much sessions will still generate, and the index made from it."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.policy import Service
from caesura.policy.remaining import (
    MAX_KINDS,
    MAX_SAMPLES,
    Distribution,
    RemainingTokens,
    gittins_index,
)
from caesura.policy.service import MAX_STAGES

FIRST = Service.begun(0.0, 100)


def seen(*totals: int, service: Service = FIRST) -> RemainingTokens:
    remaining = RemainingTokens()
    for total in totals:
        remaining.observe(service.served(total, 1))
    return remaining


def test_of_nothing_a_session_has_as_much_ahead_as_behind_it() -> None:
    remaining = RemainingTokens()
    assert remaining.confidence == 0.0
    assert remaining.after(FIRST.served(70, 1)).mean() == 70
    assert remaining.after(FIRST).mean() == 1


def test_what_was_generated_already_is_given() -> None:
    after = seen(10, 20, 40).after(FIRST.served(15, 1))
    assert set(after.tokens) == {5.0, 25.0}
    assert after.mean() == 15.0


def test_a_kind_is_shrunk_towards_all_sessions_by_its_number_of_samples() -> None:
    """By hand: two samples of the kind, four sessions in all, concentration 2."""
    remaining = seen(100, 100)
    for _ in range(2):
        remaining.observe(Service.begun(0.0, 5000).served(10, 1))
    short = remaining.after(Service.begun(0.0, 5000))
    assert short.mean() == pytest.approx((2 * 10 + 2 * 55) / 4)
    assert short.weights.sum() == pytest.approx(4)


def test_a_kind_is_measured_from_its_own_stage_on() -> None:
    """It generated 30 tokens, paused, and 12 more: 12 are behind the pause."""
    remaining = RemainingTokens()
    for _ in range(100):
        remaining.observe(FIRST.served(30, 1).paused(1.0, "tool").served(12, 1))
    back = FIRST.served(30, 1).paused(1.0, "tool")
    assert remaining.after(back).mean() == pytest.approx(12)
    assert remaining.after(back.served(5, 1)).mean() == pytest.approx(7)
    assert remaining.after(FIRST).mean() == pytest.approx(42)


def test_confidence_grows_with_the_sessions_that_are_over() -> None:
    assert seen(5).confidence == 0.5
    assert seen(*[5] * 9).confidence == 0.9
    assert seen(0, 0).confidence == 0.0, "a session that generated nothing says nothing"


def test_a_generation_lasts_until_twice_as_much_is_known() -> None:
    generations = [seen(*[5] * count).generation for count in range(1, 17)]
    changes = [number + 2 for number in range(15) if generations[number] != generations[number + 1]]
    assert changes == [2, 4, 8, 16]


def test_what_has_changed_is_learned_anew() -> None:
    remaining = seen(*[10] * MAX_SAMPLES, *[500] * MAX_SAMPLES)
    assert remaining.after(FIRST).mean() == 500


def test_memory_is_bounded() -> None:
    remaining = RemainingTokens()
    for number in range(2 * MAX_KINDS):
        remaining.observe(FIRST.paused(1.0, f"tool {number}").served(10, 1))
    assert len(remaining._kinds) == MAX_KINDS
    service = FIRST
    for _ in range(3 * MAX_STAGES):
        service = service.served(1, 1).paused(1.0, "tool")
    assert len(service.stages) == MAX_STAGES
    assert service.pauses == 3 * MAX_STAGES
    assert service.stages[-1].output_tokens == service.output_tokens


def index_by_definition(
    tokens: list[int], weights: list[float], had: int, context: int, restoring: float, mean: float
) -> float:
    """The least ratio over every stretch, term by term."""

    def work(generated: float) -> float:
        return generated * (context + generated / 2) / mean + restoring

    ratios = []
    for stretch in tokens:
        pairs = list(zip(tokens, weights, strict=True))
        spent = math.fsum(w * work(min(x, stretch)) for x, w in pairs)
        worth = math.fsum(w / (had + x) for x, w in pairs if x <= stretch)
        ratios.append(spent / worth)
    return math.sqrt(min(ratios))


@given(
    st.lists(st.tuples(st.integers(1, 2000), st.floats(0.1, 10)), min_size=1, max_size=12),
    st.integers(0, 3000),
    st.integers(1, 50_000),
    st.floats(0, 500),
)
def test_the_index_is_what_its_definition_says(
    values: list[tuple[int, float]], had: int, context: int, restoring: float
) -> None:
    values.sort()
    tokens, weights = [x for x, _ in values], [w for _, w in values]
    remaining = Distribution(np.array(tokens, float), np.array(weights))
    expected = index_by_definition(tokens, weights, had, context, restoring, 1000.0)
    assert gittins_index(remaining, had, context, restoring, 1000.0) == pytest.approx(expected)


def test_of_sessions_of_known_length_the_order_is_that_of_total_times_remaining() -> None:
    def index(had: int, left: int) -> float:
        known = Distribution(np.array([float(left)]), np.ones(1))
        return gittins_index(known, had, 10**9, 0.0, 1e9)

    cases = list(itertools.product((0, 10, 500), (1, 40, 700)))
    by_index = sorted(cases, key=lambda case: index(*case))
    assert by_index == sorted(cases, key=lambda case: (case[0] + case[1]) * case[1])
    assert index(60, 40) == pytest.approx(math.sqrt(100 * 40), rel=1e-6)


def test_a_session_that_goes_on_after_all_is_unlearned() -> None:
    remaining = seen(10, 20, 40)
    remaining.take_back(FIRST.served(20, 1))
    assert set(remaining.after(FIRST).tokens) == {10.0, 40.0}
    assert remaining.confidence == seen(10, 40).confidence
    remaining.take_back(FIRST.served(33, 1))  # long forgotten
    assert set(remaining.after(FIRST).tokens) == {10.0, 40.0}
