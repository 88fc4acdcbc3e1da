"""Who may break whose hold."""

from dataclasses import replace
from typing import Any

import pytest

from caesura.policy import (
    CostModel,
    Demand,
    Disposition,
    Expire,
    Memory,
    Snapshot,
    make_policy,
    policy_names,
)
from caesura.policy.baselines import Swap, Ttl
from caesura.policy.reclaim import ReclaimRule
from support.engines.fake_pauses import FakeIndex, FakePause, demand

RULE = ReclaimRule(patience_factor=8, patience_floor_seconds=0.5, starvation_seconds=10)
COSTS = CostModel(seconds_per_token=1e-3, seconds_per_iteration=0.0)


def paused(name: str, arrival_seconds: float, paused_seconds: float, **changes: Any) -> FakePause:
    """A pause that was decided to be kept."""
    kept = {"disposition": Disposition.PRESERVE, **changes}
    return FakePause(name, paused_seconds, arrival_seconds=arrival_seconds, **kept)


def snapshot(*pauses: FakePause) -> Snapshot:
    memory = Memory(10_000, 0)
    return Snapshot(100.0, FakeIndex(pauses), memory, memory, COSTS)


DEMAND = demand(100, arrival_seconds=50)


def released(demand: Demand, *pauses: FakePause) -> list[str]:
    return [action.pause_id for action in RULE.releases(snapshot(*pauses), demand)]


# Break-even of 100 tokens: 8 x 0.1 s, so a pause is past it after 0.8 s.
FRESH, STALE = 99.9, 90.0


def test_a_waiting_request_breaks_holds_of_later_sessions_only() -> None:
    early, late = paused("early", 40, FRESH), paused("late", 60, FRESH)
    assert released(DEMAND, early, late) == ["late"]
    assert released(DEMAND, early) == []


def test_the_latest_session_goes_first() -> None:
    pauses = [paused(name, arrival, FRESH) for name, arrival in (("b", 70), ("c", 80), ("a", 60))]
    assert released(replace(DEMAND, tokens=200), *pauses) == ["c", "b"]


def test_a_hold_past_break_even_is_anyones_and_goes_first() -> None:
    early, late = paused("early", 40, STALE), paused("late", 60, FRESH)
    assert released(DEMAND, early, late) == ["early"]


def test_break_even_grows_with_the_context() -> None:
    short = paused("short", 40, 97.0)
    long = paused("long", 40, 97.0, held_tokens=1000)
    assert released(DEMAND, long) == []
    assert released(DEMAND, long, short) == ["short"]


def test_nothing_is_broken_for_a_demand_that_cannot_be_met() -> None:
    late = paused("late", 60, FRESH)
    assert released(replace(DEMAND, tokens=101), late) == []


def test_blocks_that_others_share_do_not_count() -> None:
    shared = paused("shared", 60, FRESH, shared_tokens=60)
    assert released(DEMAND, shared) == []
    assert released(replace(DEMAND, tokens=40), shared) == ["shared"]


def test_only_the_tail_is_dropped_when_that_suffices() -> None:
    late = paused("late", 60, FRESH)
    (action,) = RULE.releases(snapshot(late), replace(DEMAND, tokens=30))
    assert action.keep_tokens == 70


@pytest.mark.parametrize(
    "demand",
    [
        replace(DEMAND, running=True),
        replace(DEMAND, engine_idle=True),
        replace(DEMAND, waited_seconds=RULE.starvation_seconds),
    ],
    ids=["running", "idle", "starved"],
)
def test_running_idle_and_starved_demands_break_any_hold_in_order(demand: Demand) -> None:
    pauses = [
        paused("early", 10, FRESH),
        paused("returning", 90, FRESH, returning=True),
        paused("late", 60, FRESH),
        paused("stale", 20, STALE),
    ]
    assert released(demand, *pauses) == ["stale", "late", "early", "returning"]


def test_ttl_drops_what_is_expired_and_says_when_to_ask_again() -> None:
    policy = Ttl(ttl_seconds=5.0)
    old, young = paused("old", 1, 94.0), paused("young", 2, 97.0)
    plan = policy.plan(snapshot(old, young))
    assert list(plan.actions) == [Expire("old")]
    assert plan.review_seconds == 102.0


def test_every_baseline_decides_every_new_pause() -> None:
    for name in policy_names():
        new = paused("new", 1, 99.0, disposition=None)
        actions = list(make_policy(name).plan(snapshot(new)).actions)
        assert [action.pause_id for action in actions] == ["new"], name


def test_policies_are_made_by_name_with_options() -> None:
    policy = make_policy("ttl", {"ttl_seconds": 3, "patience_factor": 1})
    assert isinstance(policy, Ttl)
    assert (policy.ttl_seconds, policy.reclaim.patience_factor) == (3, 1)
    assert make_policy("caesura.policy.baselines:Swap") == Swap()
    with pytest.raises(ValueError, match="choose one of"):
        make_policy("magic")
