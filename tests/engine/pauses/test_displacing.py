"""Requests that do not pause make room: which, for whom, and when."""

from vllm.v1.engine import EngineCoreEventType
from vllm.v1.request import RequestStatus

from caesura.engine.metrics import counter_key
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.obedient import Obedient, Saving
from engine.virtual.stage import Player, Stage

SAVING = "engine.virtual.obedient:Saving"


class Crowded(Stage):
    """A request that has had 20 tokens runs in nearly all memory, and a new one waits for it."""

    def __init__(self, *, policy: str = SAVING, host_blocks: int = 64, needs: int = 100) -> None:
        super().__init__(
            Shape(
                blocks=16,
                connected=True,
                host_blocks=host_blocks,
                options={"policy": policy, "check_integrity": True},
            )
        )
        self.paused = self.session("paused", BLOCK_SIZE - 1)
        self.run()
        self.long: Player = self.request("long", 160, 90)
        self.harness.run(until=lambda: self.long.tokens >= 20)
        self.needy: Player = self.request("needy", needs, 2)
        self.harness.run(until=lambda: self.scheduler.demands.missing_blocks("needy") > 0)
        self.scheduler.metrics.take()

    def displaced(self) -> int:
        stats = self.scheduler.metrics.take()
        return 0 if stats is None else stats.data["counters"].get(counter_key("displacements"), 0)

    def runs(self, name: str) -> bool:
        return name in [request.request_id for request in self.scheduler.running]


def test_a_request_that_had_much_makes_room_for_one_that_had_nothing() -> None:
    on = Crowded()
    on.harness.run(until=lambda: not on.runs("long"))
    assert on.displaced() == 1
    saves = on.scheduler.connector.transfers.saves
    assert saves.saved_blocks("long") >= 160 // BLOCK_SIZE
    on.harness.run(until=lambda: on.needy.turns == 1)
    assert on.long.turns == 0
    on.run()
    assert on.long.tokens == 90


def test_a_displacement_is_recorded_at_the_time_of_the_scheduler() -> None:
    on = Crowded()
    on.scheduler.log_stats = True
    request = on.scheduler.requests["long"]
    on.scheduler.displacing.displace()
    (preempted,) = (one for one in request.events if one.type is EngineCoreEventType.PREEMPTED)
    assert preempted.timestamp == on.engine.now_seconds


def test_nobody_is_displaced_for_a_request_that_would_not_fit_then_either() -> None:
    on = Crowded(needs=250)
    on.scheduler.displacing.displace()
    assert on.runs("long")
    assert on.displaced() == 0


def test_nobody_is_displaced_whose_context_host_memory_has_no_room_for() -> None:
    on = Crowded(host_blocks=4)
    on.scheduler.displacing.displace()
    assert on.runs("long")


def test_nobody_is_displaced_whose_context_would_be_lost() -> None:
    on = Crowded(policy="engine.virtual.obedient:Obedient")
    policy = on.scheduler.keeper.policy
    assert isinstance(policy, Obedient)
    assert not isinstance(policy, Saving)
    on.scheduler.displacing.displace()
    assert on.runs("long")


def test_a_request_that_had_about_as_much_is_not_displaced() -> None:
    on = Crowded()
    request = on.scheduler.requests["needy"]
    request.arrival_time += 30.0
    on.scheduler.ranks.turn_over("needy")  # it is ranked anew
    on.scheduler.displacing.displace()
    assert on.runs("long")


def test_nobody_is_displaced_whose_copies_take_longer_than_others_wait() -> None:
    on = Crowded()
    on.scheduler.keeper.contexts.transfers.seconds_per_block = 1.0
    on.scheduler.displacing.displace()
    assert on.runs("long")


def test_while_sessions_pause_the_policys_limit_on_an_iteration_holds() -> None:
    on = Stage(Shape(max_num_batched_tokens=64, options={"policy": SAVING}))
    policy, displacing = on.scheduler.keeper.policy, on.scheduler.displacing
    assert isinstance(policy, Saving)
    policy.limit = 20
    displacing.limit_tokens()
    assert on.scheduler.max_num_scheduled_tokens == 64, "nothing pauses"
    on.session("paused", 10)
    on.run()
    displacing.limit_tokens()
    assert on.scheduler.max_num_scheduled_tokens == 20
    policy.limit = 0
    displacing.limit_tokens()
    assert on.scheduler.max_num_scheduled_tokens == 1, "running ones go on"
    policy.limit = 1000
    displacing.limit_tokens()
    assert on.scheduler.max_num_scheduled_tokens == 64


def waiting_with_blocks(on: Stage, *names: str) -> None:
    """Sessions that were interrupted, and wait with blocks of their own."""
    for name in names:
        on.session(name, 30)
        on.run()
    for name in names:
        session = on.scheduler.parking.parked(name)
        assert session is not None
        pause = on.scheduler.keeper.table.get(name)
        assert pause is not None
        on.scheduler.keeper.cancel(pause)
        session.status = RequestStatus.WAITING
        on.scheduler.parking.queue(session)


def test_the_waiting_request_that_came_last_gives_its_blocks_back() -> None:
    on = Stage(Shape(options={"policy": "preserve"}))
    waiting_with_blocks(on, "first", "second")
    needy = on.engine.request("needy", [1] * 40, max_tokens=1)
    first, second = (on.scheduler.requests[name] for name in ("first", "second"))
    assert on.scheduler.displacing.release_waiting(needy)
    assert (first.num_computed_tokens > 0, second.num_computed_tokens) == (True, 0)
    assert on.scheduler.displacing.release_waiting(needy)
    assert first.num_computed_tokens == 0
    assert not on.scheduler.displacing.release_waiting(needy)


def test_a_request_does_not_give_way_to_itself() -> None:
    on = Stage(Shape(options={"policy": "preserve"}))
    waiting_with_blocks(on, "session")
    session = on.scheduler.requests["session"]
    assert not on.scheduler.displacing.release_waiting(session)


def test_returning_sessions_keep_what_their_holds_keep() -> None:
    on = Stage(Shape(options={"policy": "preserve"}))
    on.session("session", 30)
    on.run()
    session = on.scheduler.parking.parked("session")
    pause = on.scheduler.keeper.table.get("session")
    assert session is not None
    assert pause is not None
    on.scheduler.keeper.claim(pause, session)
    session.status = RequestStatus.WAITING
    on.scheduler.parking.queue(session)
    needy = on.engine.request("needy", [1] * 40, max_tokens=1)
    assert not on.scheduler.displacing.release_waiting(needy)
