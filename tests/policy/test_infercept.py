"""InferCept as published, with the constants that its authors released."""

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.lab.sim.profiles import GPT_J_6B_A100
from caesura.policy import (
    Action,
    CopyOut,
    Disposition,
    Drop,
    Keep,
    Load,
    Memory,
    Service,
    Snapshot,
    Turn,
    make_policy,
)
from caesura.policy.infercept import LOAD_TOLERANCE, InferCept
from caesura.policy.waste import break_even_seconds, chunk_tokens
from support.engines.fake_pauses import NO_MEMORY, FakeEngine, FakePause, demand
from support.work import LINE_SECONDS, lines_run

COSTS = GPT_J_6B_A100.costs
RUNNING, OTHER = 30, 15_000
LOAD = Load(running_requests=RUNNING, running_tokens=OTHER, copy_budget_tokens=600)
HOST = Memory(100_000, 100_000)
STEP = 0.02
SWAP, DISCARD = Disposition.SWAP, Disposition.DISCARD


def break_even(context_tokens: int, other_tokens: int = OTHER) -> float:
    return break_even_seconds(COSTS, context_tokens, other_tokens, chunk_tokens(384, RUNNING))


def engine(
    *pauses: FakePause,
    host: Memory = NO_MEMORY,
    load: Load = LOAD,
    policy: InferCept | None = None,
) -> FakeEngine:
    return FakeEngine(
        policy or InferCept(saturation_tokens=384), pauses, costs=COSTS, load=load, host=host
    )


def busy(load: Load = LOAD) -> Load:
    return Load(load.running_requests, load.running_tokens, 0, 10_000, load.copy_budget_tokens)


def test_a_new_pause_is_preserved_and_looked_at_again_in_the_next_iteration() -> None:
    state = engine(FakePause("new"), host=HOST)
    plan = state.plan(now=0.0)
    assert [type(action) for action in plan.actions] == [Keep]
    assert plan.review_seconds == pytest.approx(COSTS.forward_seconds(RUNNING))


def test_without_a_pause_there_is_nothing_to_review() -> None:
    assert engine().plan(now=0.0).review_seconds is None


@pytest.mark.parametrize("pause_seconds", [9e-5, 0.09, 0.69])
def test_short_pauses_of_the_paper_are_preserved(pause_seconds: float) -> None:
    state = engine(FakePause("tool", held_tokens=1400))
    state.step(0.0)
    assert state.step(pause_seconds) == {}


def test_a_pause_is_discarded_at_its_break_even_without_host_memory() -> None:
    state = engine(FakePause("tool", held_tokens=1400))
    state.step(0.0)
    due = break_even(1400)
    assert 0.5 < due < 2
    assert state.step(due - 1e-3) == {}
    assert state.step(due + 1e-3) == {"tool": DISCARD}
    assert state.plan(due + STEP).review_seconds is None


def test_a_pause_is_swapped_rather_than_discarded_where_the_budget_allows() -> None:
    state = engine(FakePause("tool", held_tokens=1400), host=HOST, load=busy())
    state.step(0.0)
    assert state.step(break_even(1400) - 1e-3) == {}
    state.load = LOAD
    assert state.step(break_even(1400) + 1e-3) == {"tool": SWAP}


def test_the_saturation_point_is_the_profiles() -> None:
    policy = InferCept()
    assert policy.iteration_tokens() is None, "nothing pauses yet"
    costs = replace(COSTS, saturation_tokens=500)
    FakeEngine(policy, [FakePause("tool")], costs=costs, load=LOAD).step(0.0)
    assert policy.iteration_tokens() == 500
    # Without a profile: 10 ms are 216 tokens of 0.0463 ms.
    FakeEngine(policy, [FakePause("tool")], costs=COSTS, load=LOAD).step(0.0)
    assert policy.iteration_tokens() == 216
    policy = InferCept(saturation_tokens=384)
    FakeEngine(policy, [FakePause("tool")], costs=costs, load=LOAD).step(0.0)
    assert policy.iteration_tokens() == 384


def test_break_even_goes_by_the_profiles_saturation_point() -> None:
    costs = replace(COSTS, saturation_tokens=100)
    state = FakeEngine(InferCept(), [FakePause("tool", held_tokens=1400)], costs=costs, load=LOAD)
    due = break_even_seconds(costs, 1400, OTHER, 100 - RUNNING)
    assert due > 1.5 * break_even(1400), "smaller chunks pay more iterations"
    state.step(0.0)
    assert state.step(due - 1e-3) == {}
    assert state.step(due + 1e-3) == {"tool": DISCARD}


def test_a_swapped_session_waits_in_a_queue_of_its_own() -> None:
    order = InferCept().order
    assert order is not None
    swapped, computed = Turn(1000, swapped_tokens=900), Turn(1000, held_tokens=900)
    assert order.rank(Service(9.0), swapped) < order.rank(Service(1.0), computed)
    assert order.rank(Service(1.0), swapped) < order.rank(Service(9.0), swapped)
    assert order.rank(Service(1.0), computed) < order.rank(Service(9.0))


def test_idle_budget_goes_to_pauses_before_their_break_even_too() -> None:
    state = engine(FakePause("tool", held_tokens=1400), host=HOST)
    assert state.step(0.0) == {}
    assert state.step(STEP) == {"tool": SWAP}


def test_a_pause_is_discarded_at_its_break_even_while_the_link_is_busy() -> None:
    state = engine(FakePause("tool", held_tokens=1400), host=HOST, load=busy())
    state.step(0.0)
    assert state.step(break_even(1400) + 1e-3) == {"tool": DISCARD}


def test_the_budget_goes_to_the_most_wasteful_and_the_rest_are_preserved() -> None:
    pauses = [
        FakePause("small", 0.0, 300),
        FakePause("old", -0.3, 500),
        FakePause("large", 0.0, 2100),
    ]
    state = engine(*pauses, host=HOST, load=busy())
    state.step(0.0)
    state.load = LOAD
    # By preserving them 0.1 s x 300, 0.4 s x 500 and 0.1 s x 2100 are wasted; 600 is the budget.
    assert state.step(0.1) == {"large": SWAP}
    assert state.step(0.1 + STEP) == {"old": SWAP, "small": SWAP}


def test_the_budget_is_filled_by_several_small_contexts() -> None:
    pauses = [FakePause(f"p{size}", 0.0, size) for size in (100, 150, 200, 400, 50)]
    state = engine(*pauses, host=HOST)
    state.step(0.0)
    assert state.step(STEP) == {"p400": SWAP, "p200": SWAP}


def test_of_due_pauses_those_beyond_the_budget_are_discarded() -> None:
    pauses = [FakePause(f"p{size}", 0.0, size) for size in (700, 800, 900)]
    state = engine(*pauses, host=HOST, load=busy())
    state.step(0.0)
    state.load = LOAD
    assert state.step(5.0) == {"p900": SWAP, "p800": DISCARD, "p700": DISCARD}


def test_nothing_is_swapped_that_host_memory_has_no_room_for() -> None:
    pauses = [FakePause("large", 0.0, 900), FakePause("small", 0.0, 300)]
    state = engine(*pauses, host=Memory(1000, 400))
    state.step(0.0)
    assert state.step(STEP) == {"small": SWAP}
    state.host = Memory(1000, 100)
    assert state.step(2 * STEP) == {}
    state.host = Memory(1000, 900)
    assert state.step(3 * STEP) == {"large": SWAP}


def test_a_swap_under_way_is_asked_for_once_and_waited_for() -> None:
    pause = FakePause("tool", 0.0, 3000)
    state = engine(pause, host=HOST)
    state.step(0.0)
    assert state.step(STEP) == {"tool": SWAP}
    for step in range(2, 200):
        pause.copied_tokens = 15 * step
        assert state.step(step * STEP) == {}


def test_a_swap_that_gets_no_further_is_discarded_in_the_end() -> None:
    state = engine(FakePause("tool", 0.0, 3000), host=HOST)
    state.step(0.0)
    decided = [state.step(step * STEP) for step in range(1, 200)]
    assert [one for one in decided if one] == [{"tool": SWAP}, {"tool": DISCARD}]


def test_returning_sessions_are_left_alone() -> None:
    pause = FakePause("tool", held_tokens=1400)
    state = engine(pause, host=HOST)
    state.step(0.0)
    pause.returning = True
    assert state.step(100.0) == {}


def test_what_others_share_is_not_given_up() -> None:
    pause = FakePause("tool", held_tokens=1400, shared_tokens=1400)
    state = engine(pause, host=HOST)
    state.step(0.0)
    assert all(state.step(second) == {} for second in range(1, 60))
    pause.shared_tokens = 0
    assert state.step(61.0) == {"tool": SWAP}


def test_a_discard_that_could_not_be_carried_out_is_repeated() -> None:
    state = engine(FakePause("tool", held_tokens=1400))
    state.step(0.0)
    for now in (3.0, 3.02):
        (action,) = state.plan(now).actions
        assert isinstance(action, Drop)


def test_more_load_postpones_and_less_load_hastens() -> None:
    state = engine(FakePause("one", held_tokens=1400))
    state.step(0.0)
    state.load = Load(RUNNING, 2 * OTHER)
    assert state.step(break_even(1400) + STEP) == {}
    state.load = Load(RUNNING, OTHER // 2)
    assert state.step(break_even(1400) + 2 * STEP) == {"one": DISCARD}


def test_discarded_contexts_are_forgotten_on_request() -> None:
    for option in (0, 1):
        policy = make_policy("infercept", {"forget_discarded": option})
        state = FakeEngine(policy, [FakePause("tool")], costs=COSTS, load=LOAD)
        state.step(0.0)
        (action,) = state.plan(5.0).actions
        assert action == Drop(action.pause_id, forget=bool(option))


def test_the_rule_of_the_released_code_takes_the_remaining_time_that_is_known() -> None:
    ends = {"short": 0.2, "long": 30.0}
    state = engine(*(FakePause(name, held_tokens=1400) for name in (*ends, "unknown")))
    policy = state.policy
    assert isinstance(policy, InferCept)
    now = 0.0
    policy.remaining_seconds = lambda name: ends[name] - now if name in ends else None
    state.step(now)
    now = STEP
    assert state.step(now) == {"long": DISCARD}
    now = break_even(1400) + 1e-3
    assert state.step(now) == {"unknown": DISCARD}


def test_demands_are_met_as_by_the_baselines() -> None:
    state = engine(FakePause("late", 0.0, arrival_seconds=5.0))
    assert [action.pause_id for action in state.releases(demand(50, arrival_seconds=1.0))] == [
        "late"
    ]
    assert state.releases(demand(50, arrival_seconds=9.0)) == []


@given(
    pauses=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 6000)), min_size=1, max_size=12),
    others=st.lists(st.integers(0, 60_000), min_size=1, max_size=8),
)
def test_decisions_are_those_of_looking_at_every_pause_in_every_iteration(
    pauses: list[tuple[float, int]], others: list[int]
) -> None:
    """Up to the tolerance that is granted to a load that falls."""
    state = engine()
    begin = dict(enumerate(sorted(pauses)))
    loads = itertools.cycle(other for other in others for _ in range(20))
    for step in range(250):
        now = step * STEP
        for name in [name for name, (start, _) in begin.items() if start <= now]:
            _, tokens = begin.pop(name)
            state.pauses.append(FakePause(str(name), now, tokens))
        other = next(loads)
        state.load = Load(RUNNING, other)
        before = {pause.id: (now - pause.paused_seconds, pause) for pause in state.pauses}
        sizes = {name: pause.held_tokens for name, (_, pause) in before.items()}
        discarded = state.step(now)
        for name, (elapsed, pause) in before.items():
            if name in discarded:
                assert elapsed >= break_even(sizes[name], other) - 1e-9
            elif pause.held_tokens and elapsed:
                # The break-even of one chunk scales the same way or less.
                late = break_even(sizes[name], int(other / (1 - LOAD_TOLERANCE)) + 600)
                assert elapsed <= late + STEP


def test_a_thousand_pauses_cost_far_less_than_a_step() -> None:
    """In virtual time: pauses come and go, the load changes, budget is handed out."""
    rng = random.Random(0)
    state = engine(host=HOST)
    for number in range(1000):
        state.pauses.append(FakePause(str(number), -rng.random(), rng.randint(200, 3000)))
    state.step(0.0)
    lines: list[int] = []
    actions: list[Action] = []

    def plan(snapshot: Snapshot) -> None:
        actions[:] = state.policy.plan(snapshot).actions

    for step in range(1, 201):
        for _ in range(2):  # 100 sessions return, and as many pause, in a second
            position = rng.randrange(len(state.pauses))
            state.pauses[position].held_tokens = 0
            state.pauses[position] = FakePause(
                f"new{step}-{position}", step * STEP, rng.randint(200, 3000)
            )
        other = int(OTHER * 3 * (1 + 0.5 * rng.random()))
        backlog = 600 * (step % 3 > 0)
        state.load = Load(RUNNING, other, 0, backlog, 600)
        snapshot = state.snapshot(step * STEP)
        lines.append(lines_run(plan, snapshot))
        by_id = {pause.id: pause for pause in state.pauses}
        for action in actions:
            pause = by_id[action.pause_id]
            pause.disposition = Disposition.SWAP if isinstance(action, CopyOut) else DISCARD
            if isinstance(action, Keep):
                pause.disposition = Disposition.PRESERVE
            if isinstance(action, Drop):
                pause.held_tokens = 0
                state.pauses.remove(pause)
                state.pauses.append(FakePause(f"again{step}-{pause.id}", step * STEP, 1500))
    assert LINE_SECONDS * sum(lines) / len(lines) < 0.05 * STEP
