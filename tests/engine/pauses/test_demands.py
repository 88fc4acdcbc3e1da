"""Requests that lack blocks: whose holds are broken for them, and when they are tried again."""

from vllm.v1.request import Request

from caesura.engine.metrics import counter_key
from caesura.engine.pauses.demands import RETRY_SECONDS, Demands
from caesura.engine.pauses.pause import HoldEnding, PauseEnding
from caesura.policy import Drop
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.obedient import Asked
from engine.virtual.stage import Stage


class Full(Stage):
    """A pool full of paused sessions of two blocks each."""

    def __init__(self, **options: object) -> None:
        options = {"policy": "engine.virtual.obedient:Asked", "check_integrity": True, **options}
        super().__init__(Shape(blocks=16, options=options))
        for number in range(8):
            self.session(f"p{number}", 2 * BLOCK_SIZE - 1)
            self.run()
        assert self.free_blocks == 0
        self.needy = self.engine.request("needy", [1] * 40, max_tokens=1)

    @property
    def policy(self) -> Asked:
        policy = self.scheduler.keeper.policy
        assert isinstance(policy, Asked)
        return policy

    @property
    def demands(self) -> Demands:
        return self.scheduler.demands

    def reclaim(
        self, missing: int, *, running: bool = False, request: Request | None = None
    ) -> bool:
        needy = self.needy if request is None else request
        return self.demands.reclaim(needy, missing, running=running, idle=False)


def test_holds_are_broken_until_it_is_enough() -> None:
    on = Full()
    on.policy.answer = lambda demand: [Drop(f"p{number}") for number in range(8)]
    assert on.reclaim(3)
    assert on.free_blocks == 4
    (demand,) = on.policy.demands
    assert (demand.request_id, demand.tokens, demand.running) == ("needy", 3 * BLOCK_SIZE, False)
    held = {pause.id for pause in on.scheduler.keeper.table if pause.hold is not None}
    assert held == {f"p{number}" for number in range(2, 8)}


def test_a_hold_that_is_broken_for_a_request_is_counted_as_released() -> None:
    on = Full()
    on.scheduler.metrics.take()
    on.policy.answer = lambda demand: [Drop("p0")]
    on.reclaim(2)
    stats = on.scheduler.metrics.take()
    assert stats is not None
    assert stats.data["counters"][counter_key("hold_endings", HoldEnding.RELEASED)] == 1


def test_a_waiting_request_is_not_tried_again_at_once_and_a_running_one_is() -> None:
    on = Full()
    assert not on.reclaim(3)
    assert not on.reclaim(3)
    assert len(on.policy.demands) == 1
    assert not on.reclaim(3, running=True)
    assert len(on.policy.demands) == 2
    on.engine.now_seconds += RETRY_SECONDS
    assert not on.reclaim(3)
    assert len(on.policy.demands) == 3


def test_how_long_a_request_has_waited_is_said_until_it_is_forgotten() -> None:
    on = Full()
    on.reclaim(3)
    on.engine.now_seconds += 5.0
    on.reclaim(3)
    on.demands.forget("needy")
    on.reclaim(3)
    assert [demand.waited_seconds for demand in on.policy.demands] == [0.0, 5.0, 0.0]


def test_what_a_request_lacked_is_known_until_it_is_forgotten() -> None:
    on = Full()
    on.policy.answer = lambda demand: [Drop("p0")]
    assert not on.reclaim(5)
    assert on.demands.missing_blocks("needy") == 3
    assert on.demands.missing_blocks("other") == 0
    assert not on.demands.is_empty()
    on.demands.forget("needy")
    assert on.demands.missing_blocks("needy") == 0
    assert on.demands.is_empty()


def test_a_sessions_own_hold_is_broken_last() -> None:
    on = Full(keep_contexts="all")
    client = on.request("client", 2 * BLOCK_SIZE, 1)
    on.policy.answer = lambda demand: [Drop("p0"), Drop("p1")]
    on.run()
    assert client.turns == 1
    (pause,) = (one for one in on.scheduler.keeper.table if not one.in_place)
    back = on.engine.request("back", client.transcript.tokens + [1] * 64, max_tokens=1)
    on.scheduler.keeper.claim(pause, back)
    on.policy.answer = lambda demand: [Drop("client"), Drop("p2")]
    free = on.free_blocks
    assert on.reclaim(free + 2, request=back)
    assert pause.held_tokens > 0, "another hold was enough"
    on.policy.answer = lambda demand: [Drop("client")]
    assert on.reclaim(free + 9, running=True, request=back)
    assert pause.hold is None


def test_no_demand_is_left_of_a_request_that_is_gone() -> None:
    on = Full()
    on.request("waiting", 40, 1)
    on.harness.run(until=lambda: not on.demands.is_empty())
    on.harness.abort("waiting", mid_step=False)
    assert on.demands.is_empty()
    for number in range(8):
        on.harness.abort(f"p{number}", mid_step=False)
    on.run()
    counted = on.scheduler.metrics.take()
    assert counted is not None
    assert (
        counted.data["counters"][counter_key("pause_endings", "client", PauseEnding.CANCELLED)] == 8
    )
    on.scheduler.check_idle()
