"""Continuum's time to live, on cases computed by hand."""

import math

import pytest

from caesura.policy import CostModel, Disposition, Keep, Load, Memory, Service, Turn
from caesura.policy.peers.continuum import WINDOW, Continuum, Durations, Memoryfulness
from support.engines.fake_pauses import FakeEngine, FakePause, demand

COSTS = CostModel(seconds_per_token=1e-3, seconds_per_iteration=0.0, seconds_per_copied_token=1e-4)


def engine(policy: Continuum, *pauses: FakePause, host: int = 0) -> FakeEngine:
    return FakeEngine(policy, pauses, costs=COSTS, load=Load(), host=Memory(host, host))


def seen(*durations: float, calls: int, endpoint: str = "tool") -> Continuum:
    """A policy that has seen so many calls, of these durations in turn."""
    policy = Continuum()
    for number in range(calls):
        policy.ended(endpoint, durations[number % len(durations)], returned=True)
    return policy


def test_the_time_to_live_is_the_best_of_the_durations_that_were_seen() -> None:
    durations = Durations()
    for seconds in (0.1, 0.2, 0.3, 5.0):
        durations.add(seconds)
    # For a benefit of 2 s: 0.5 - 0.1, 1 - 0.2, 1.5 - 0.3, 2 - 5.
    assert durations.best_ttl_seconds(2.0) == 0.3
    # For 0.5 s: 0.125 - 0.1, 0.25 - 0.2, 0.375 - 0.3, 0.5 - 5.
    assert durations.best_ttl_seconds(0.5) == 0.3
    # For 20 s: 5 - 0.1, 10 - 0.2, 15 - 0.3, 20 - 5.
    assert durations.best_ttl_seconds(20.0) == 5.0
    assert durations.best_ttl_seconds(0.3) == 0.0


def test_only_the_latest_durations_count() -> None:
    durations = Durations()
    for seconds in [9.0] * 10 + [1.0] * WINDOW:
        durations.add(seconds)
    assert len(durations) == WINDOW
    assert durations.best_ttl_seconds(1.5) == 1.0


def test_memoryfulness_is_the_correlation_of_turns_had_and_to_come() -> None:
    equal = Memoryfulness()
    assert equal.factor() == 1.0
    for _ in range(3):
        equal.observe(4)
    assert equal.factor() == pytest.approx(1.0)
    # One pause, (1, 1); three, (1, 3), (2, 2), (3, 1): covariance -2 / 4^2 x 4, by hand:
    # means 7/4 and 7/4, sum of products 1 + 3 + 4 + 3 = 11, of squares 1 + 1 + 4 + 9 = 15.
    mixed = Memoryfulness()
    mixed.observe(1)
    mixed.observe(3)
    assert mixed.factor() == pytest.approx(-(4 * 11 - 7 * 7) / (4 * 15 - 7 * 7))


def test_at_first_calls_are_taken_for_exponential_of_a_second() -> None:
    policy = seen(0.1, calls=100)
    assert policy.ttl_seconds("tool", 0.5) == 0.0
    assert policy.ttl_seconds("tool", math.e) == pytest.approx(1.0)
    policy.resumed(2.0, held=False)
    assert policy.ttl_seconds("tool", math.e**2 - 2.0) == pytest.approx(2.0)


def test_with_enough_calls_their_own_distribution_counts_and_before_that_all() -> None:
    policy = seen(0.25, calls=101, endpoint="fast")
    assert policy.ttl_seconds("fast", 0.5) == 0.25
    assert policy.ttl_seconds("rare", 0.5) == 0.25
    for _ in range(101):
        policy.ended("slow", 3.0, returned=True)
    assert policy.ttl_seconds("slow", 0.5) == 0.0
    assert policy.ttl_seconds("slow", 4.0) == 3.0


def test_waits_of_the_evicted_lengthen_it_by_how_well_turns_tell_what_is_to_come() -> None:
    policy = seen(0.5, 2.0, calls=200)
    assert policy.ttl_seconds("tool", 1.2) == 0.5
    policy.resumed(9.0, held=True)
    assert policy.ttl_seconds("tool", 1.2) == 0.5, "those that were held tell nothing"
    policy.resumed(4.0, held=False)
    assert policy.ttl_seconds("tool", 1.2) == 2.0
    for pauses in (1, 1, 1, 1, 9):  # long sessions go on: what was had promises more
        policy.order.ended(Service(0.0, pauses=pauses))
    assert policy.order.memoryfulness.factor() < 0.3
    assert policy.ttl_seconds("tool", 1.2) == 0.5


def test_a_pin_expires_and_a_returning_one_does_not() -> None:
    policy = seen(0.25, calls=101)
    pauses = FakePause("tool", 0.0, 1000), FakePause("back", 0.0, 1000)
    state = engine(policy, *pauses)
    plan = state.plan(0.0)
    assert [type(action) for action in plan.actions] == [Keep, Keep]
    assert plan.review_seconds == pytest.approx(0.25)
    for pause in pauses:
        pause.disposition = Disposition.PRESERVE
    pauses[1].returning = True
    assert state.step(0.24) == {}
    assert state.step(0.26) == {"tool": Disposition.DISCARD}


def test_what_is_not_worth_a_pin_leaves_at_once_and_goes_to_host_memory() -> None:
    for host, disposition in ((0, Disposition.DISCARD), (5000, Disposition.SWAP)):
        policy = seen(3.0, calls=101)
        state = engine(policy, FakePause("tool", 0.0, 1000), host=host)
        assert state.step(0.0) == {"tool": disposition}


def test_loading_is_cheaper_than_computing_and_less_worth_a_pin() -> None:
    for host, kept in ((0, True), (5000, False)):
        policy = seen(0.5, calls=101)  # 1 s to compute, 0.1 s to load
        state = engine(policy, FakePause("tool", 0.0, 1000), host=host)
        assert (state.step(0.0) == {}) == kept


def test_pins_are_broken_for_who_does_not_fit_the_latest_session_first() -> None:
    policy = Continuum()
    pauses = [FakePause(f"p{arrival}", arrival_seconds=arrival) for arrival in (3.0, 9.0, 5.0)]
    actions = engine(policy, *pauses).releases(demand(50, request_id="p5.0"))
    assert [action.pause_id for action in actions] == ["p9.0", "p3.0"]


def test_who_comes_back_to_a_pin_goes_first_then_sessions_by_arrival() -> None:
    order = Continuum().order
    pinned, evicted = Turn(1000, held_tokens=900), Turn(1000)
    assert order.rank(Service(9.0), pinned) < order.rank(Service(1.0), evicted)
    assert order.rank(Service(1.0), evicted) < order.rank(Service(9.0), evicted)
