"""AugServe: least scheduling value first, and a token budget that follows memory."""

from dataclasses import replace

import pytest

from caesura.policy import CostModel, Disposition, Load, Memory, Service, Turn
from caesura.policy.peers.augserve import FIRST_OUTPUT_TOKENS, AugServe, LeastValue, State
from support.engines.fake_pauses import FakeEngine, FakePause

COSTS = CostModel(
    seconds_per_token=1e-3,
    seconds_per_iteration=0.1,
    seconds_per_copied_token=1e-4,
    saturation_tokens=100,
)
LOAD = Load(running_requests=4, running_tokens=2000)


def engine(policy: AugServe, *pauses: FakePause, host: int = 0, free: int = 0) -> FakeEngine:
    return FakeEngine(
        policy,
        pauses,
        costs=COSTS,
        load=LOAD,
        device=Memory(10_000, free),
        host=Memory(host, host),
    )


def test_the_strategies_cost_what_the_published_equations_say() -> None:
    state = State(COSTS, running_tokens=2000, host_tokens=5000)
    wastes = state.wastes(1000, call_seconds=3.0)
    assert wastes[Disposition.PRESERVE] == pytest.approx(3.0 * 1000)
    assert wastes[Disposition.DISCARD] == pytest.approx(1.1 * 1000 + 1.1 * 2000)
    assert wastes[Disposition.SWAP] == pytest.approx(2 * 0.1 * 3000)
    assert Disposition.SWAP not in replace(state, host_tokens=999).wastes(1000, 3.0)


def test_the_value_is_memory_times_time_of_computing_decoding_and_calling() -> None:
    order = LeastValue(state=State(COSTS, running_tokens=2000, call_seconds=0.5))
    output = FIRST_OUTPUT_TOKENS
    # 10 iterations of computing, with half of 1,000 tokens; then the output, and the call.
    expected = 10 * 0.1 * 500 + output * 0.1 * (1000 + output / 2) + 0.5 * int(1000 + output)
    turn = Turn(1000, restoring_tokens=10.0)
    assert order.value(Service.begun(0.0, 1000), turn) == pytest.approx(expected)


def test_smaller_contexts_and_shorter_outputs_go_first() -> None:
    order = LeastValue(state=State(COSTS))
    service = Service.begun(0.0, 1000)
    assert order.rank(service, Turn(500)) < order.rank(service, Turn(1000))
    for endpoint, output in (("short", 10), ("long", 400)):
        order.ended(Service.begun(0.0, 9).served(50, 9).paused(1.0, endpoint).served(output, 9))
    back = Service.begun(0.0, 1000).served(50, 1000)
    short, long = (back.paused(1.0, endpoint) for endpoint in ("short", "long"))
    assert order.outputs.expected(short) == 10
    assert order.outputs.expected(long) == 400
    assert order.rank(short, Turn(1000)) < order.rank(long, Turn(1000))
    assert order.outputs.expected(Service.begun(0.0, 9)) == 50
    unseen = Service.begun(0.0, 10**6)
    assert order.outputs.expected(unseen) == pytest.approx((50 + 10 + 50 + 400) / 4)


def test_a_pause_gets_the_cheapest_strategy() -> None:
    policy = AugServe()
    for _ in range(200):
        policy.ended("fast", 0.05, returned=True)
        policy.ended("slow", 30.0, returned=True)
    pauses = FakePause("a", held_tokens=1000, endpoint="fast"), FakePause("b", endpoint="slow")
    pauses[1].held_tokens = 1000
    assert engine(policy, *pauses).step(0.0) == {"b": Disposition.DISCARD}
    pauses[1].disposition = None
    pauses[1].held_tokens = 1000
    assert engine(policy, *pauses, host=5000).step(0.0) == {"b": Disposition.SWAP}


def test_the_budget_follows_the_memory_that_is_free_or_could_be() -> None:
    policy = AugServe(largest_tokens=1100)
    assert policy.iteration_tokens() is None
    engine(policy).step(0.0)
    assert policy.iteration_tokens() == 100, "the saturation point"
    engine(policy, free=2500).step(0.0)
    assert policy.iteration_tokens() == 350
    held = FakePause("a", held_tokens=2500, disposition=Disposition.PRESERVE)
    engine(policy, held, free=2500).step(0.0)
    assert policy.iteration_tokens() == 600
    held.returning = True
    engine(policy, held, free=2500).step(0.0)
    assert policy.iteration_tokens() == 350
    engine(policy, free=10_000).step(0.0)
    assert policy.iteration_tokens() == 1100
