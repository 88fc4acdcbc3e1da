"""Every option that a policy takes changes something."""

import random
from enum import StrEnum

import pytest

from caesura.policy import (
    CostModel,
    Disposition,
    Load,
    Memory,
    OptionValue,
    OriginalArrival,
    Policy,
    Service,
    Turn,
    make_policy,
    policy_names,
    policy_options,
)
from support.engines.fake_pauses import FakeEngine, FakePause, demand

COSTS = CostModel(1e-4, 0.01, seconds_per_copied_token=2e-5, saturation_tokens=300)
ENDPOINTS = {"fast": 0.1, "slow": 5.0, "human": 40.0}
STEP_SECONDS = 0.04
OPTIONS = [(name, option) for name in policy_names() for option in sorted(policy_options(name))]


def behaviour(policy: Policy) -> list[object]:
    """All that a policy says in a life of sessions that pause, return, and lack memory."""
    rng = random.Random(0)
    said: list[object] = []
    state = FakeEngine(policy, costs=COSTS, load=Load())
    for step in range(500):
        now = step * STEP_SECONDS
        if rng.random() < 0.4:
            endpoint = rng.choice(list(ENDPOINTS))
            tokens = rng.randrange(100, 3000)
            state.pauses.append(
                FakePause(f"p{step}", now, tokens, now - rng.random() * 50, endpoint=endpoint)
            )
        for pause in list(state.pauses):
            elapsed = now - pause.paused_seconds
            if pause.copy_requested and rng.random() < 0.02:
                pause.copied_tokens = pause.copied_tokens or pause.held_tokens
                if pause.disposition is Disposition.SWAP:
                    pause.held_tokens = 0
            if rng.random() < STEP_SECONDS / ENDPOINTS[pause.endpoint]:
                policy.ended(pause.endpoint, elapsed, returned=rng.random() < 0.9)
                policy.resumed(rng.random(), held=pause.held_tokens > 0)
                state.pauses.remove(pause)
                pause.held_tokens = pause.copied_tokens = 0
        waiting = rng.choice([0, 0, 1, 9])
        state.load = Load(rng.randrange(1, 9), rng.randrange(30_000), waiting, 0, 4000)
        state.device = Memory(40_000, rng.choice([0, 500, 30_000]))
        state.host = Memory(60_000, rng.choice([0, 2000, 60_000]))
        lacking = demand(
            rng.randrange(100, 8000),
            arrival_seconds=rng.random() * now,
            waited_seconds=rng.choice([0.0, 3.0, 12.0]),
        )
        released = state.releases(lacking, now)
        said.append(released)
        for pause in state.pauses:
            if any(action.pause_id == pause.id for action in released[:2]):
                pause.held_tokens = 0
        said.append(state.plan(now).review_seconds)
        said.append(state.plan(now).actions)
        state.step(now)
        said.append(policy.iteration_tokens())
        said.append(list(policy.copies_given_up(state.snapshot(now), 500, None)))
    return said + ranks(policy)


def ranks(policy: Policy) -> list[object]:
    """What the policy's order says of sessions, some of which are over."""
    order = policy.order
    if order is None:
        return []
    for output in (10, 100, 1000) * 5:
        order.ended(Service.begun(0.0, 500).served(output, 500))
    sessions = [Service.begun(1.0, 500).served(output, 500) for output in (0, 7, 70, 700, 7000)]
    told = [order.rank(session, Turn(500)) for session in sessions]
    return [*told, order.displacement_margin_seconds, order.promoted_share, order.generation]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_option_changes_something(name: str, option: str) -> None:
    usual = behaviour(make_policy(name))
    policy = make_policy(name)
    default = getattr(policy, option, None)
    if default is None:
        default = getattr(policy.reclaim, option)  # type: ignore[attr-defined]
    if isinstance(default, StrEnum):
        others: list[OptionValue] = [str(word) for word in type(default) if word is not default]
    else:
        others = [1.0 - default, default * 7 + 3, default / 10]
    assert any(behaviour(make_policy(name, {option: value})) != usual for value in others)


def test_the_life_is_the_same_each_time() -> None:
    for name in policy_names():
        assert behaviour(make_policy(name)) == behaviour(make_policy(name))


def test_options_of_the_reclaim_rule_are_for_those_who_use_it() -> None:
    for name in ("min-waste", "end", "discard", "continuum", "autellix", "thunderagent"):
        with pytest.raises(ValueError, match="has no option patience_factor"):
            make_policy(name, {"patience_factor": 4.0})
    assert "starvation_seconds" in policy_options("min-waste")


def test_an_option_takes_one_of_its_words_or_a_number() -> None:
    assert isinstance(make_policy("min-waste", {"served_by": "arrival"}).order, OriginalArrival)
    with pytest.raises(ValueError, match="it takes one of: arrival, service, work"):
        make_policy("preserve", {"served_by": "luck"})
    with pytest.raises(ValueError, match="option ttl_seconds of policy 'ttl' is 'long'"):
        make_policy("ttl", {"ttl_seconds": "long"})
