"""ThunderAgent: programs are admitted while they fit."""

from caesura.policy import CostModel, Disposition, Load, Memory, Service, Turn
from caesura.policy.peers.thunderagent import (
    BUFFER_TOKENS,
    CHECK_SECONDS,
    FORCED_SECONDS,
    ThunderAgent,
)
from support.engines.fake_pauses import FakeEngine, FakePause, demand

COSTS = CostModel(1e-3, 0.0)
DISCARD = Disposition.DISCARD


def engine(*pauses: FakePause, device: int, load: Load | None = None) -> FakeEngine:
    memory = Memory(device, 0)
    return FakeEngine(ThunderAgent(), pauses, costs=COSTS, load=load or Load(), device=memory)


def test_active_programs_stay_while_they_and_their_buffers_fit() -> None:
    pauses = FakePause("a", held_tokens=1000), FakePause("b", held_tokens=2000)
    load = Load(running_requests=1, running_tokens=3000)
    fits = 6000 + 3 * BUFFER_TOKENS
    assert engine(*pauses, device=fits, load=load).step(0.0) == {}
    assert engine(*pauses, device=fits - 1, load=load).step(0.0) == {"a": DISCARD}


def test_the_smallest_are_paused_until_the_others_fit() -> None:
    # 6,000 tokens and 768 of buffers; without the smallest 5,000 and 512 are left.
    for device, paused in ((5512, {"1000": DISCARD}), (5511, {"1000": DISCARD, "2000": DISCARD})):
        pauses = [FakePause(str(size), held_tokens=size) for size in (3000, 1000, 2000)]
        assert engine(*pauses, device=device).step(0.0) == paused


def test_it_looks_every_five_seconds_and_leaves_returning_programs_alone() -> None:
    pauses = FakePause("back", held_tokens=1000, returning=True), FakePause("b", held_tokens=2000)
    state = engine(*pauses, device=10_000)
    assert state.plan(0.0).review_seconds == CHECK_SECONDS
    state.step(0.1)
    state.device = Memory(3000, 0)
    assert state.step(CHECK_SECONDS - 0.1) == {}
    assert state.step(CHECK_SECONDS) == {"b": DISCARD}


def test_who_is_not_active_waits_until_there_is_room() -> None:
    pauses = [FakePause(str(size), held_tokens=size) for size in (3000, 1000, 2000)]
    state = engine(*pauses, device=6000)
    assert state.releases(demand(500, waited_seconds=FORCED_SECONDS - 1)) == []
    smallest_first = ["1000", "2000", "3000"]
    for forced in (
        demand(500, waited_seconds=FORCED_SECONDS),
        demand(500, engine_idle=True),
        demand(500, running=True),
    ):
        assert [action.pause_id for action in state.releases(forced)] == smallest_first


def test_an_active_program_whose_result_does_not_fit_takes_from_those_whose_tools_run() -> None:
    pauses = FakePause("back", held_tokens=1000, returning=True), FakePause("b", held_tokens=2000)
    actions = engine(*pauses, device=3000).releases(demand(500, request_id="back"))
    assert [action.pause_id for action in actions] == ["b"]


def test_active_ones_go_first_then_those_that_come_back_then_new_ones_smallest_first() -> None:
    order = ThunderAgent().order
    active = order.rank(Service(99.0, pauses=3), Turn(9000, held_tokens=8000))
    large_back = order.rank(Service(1.0, pauses=1), Turn(9000))
    small_back = order.rank(Service(50.0, pauses=1), Turn(100))
    small_new = order.rank(Service(1.0), Turn(100))
    large_new = order.rank(Service(0.5), Turn(9000))
    assert active < small_back < large_back < small_new < large_new
