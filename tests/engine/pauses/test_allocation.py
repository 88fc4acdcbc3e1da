"""Allocation: holds are broken before it fails, and a pause ends when it succeeds."""

from caesura.engine.metrics import counter_key
from caesura.engine.pauses.pause import HoldEnding
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.stage import Player, Stage

PRESERVE = {"policy": "preserve", "policy_options": {"starvation_seconds": 5.0}}
OBEDIENT = {"policy": "engine.virtual.obedient:Obedient"}


def counters(on: Stage) -> dict[str, float]:
    stats = on.scheduler.metrics.take()
    return {} if stats is None else stats.data["counters"]


def paused(on: Stage, name: str, blocks: int) -> Player:
    """A session that has paused with so many blocks."""
    session = on.session(name, blocks * BLOCK_SIZE - 1)
    on.run()
    return session


def test_a_request_that_fits_breaks_no_hold() -> None:
    on = Stage(Shape(blocks=16, options=PRESERVE))
    paused(on, "session", 8)
    on.request("other", 60, 1)
    on.run()
    pause = on.scheduler.keeper.table.get("session")
    assert pause is not None
    assert pause.held_tokens == 8 * BLOCK_SIZE - 1
    assert on.scheduler.demands.is_empty()


def test_an_older_request_breaks_the_latest_hold_and_only_as_far_as_it_needs_blocks() -> None:
    on = Stage(Shape(blocks=16, options=OBEDIENT))
    early = on.engine.request("early", on.words(60), max_tokens=1)
    for name in ("a", "b", "c"):
        paused(on, name, 4)
    on.request("running", BLOCK_SIZE - 1, 60)
    on.harness.run(until=lambda: bool(on.scheduler.running))
    assert on.scheduler.kv_cache_manager.allocate_slots(early, 60) is not None
    held = {pause.id: pause.held_tokens for pause in on.scheduler.keeper.table}
    assert held["a"] == held["b"] == 4 * BLOCK_SIZE - 1
    assert 0 < held["c"] < 4 * BLOCK_SIZE - 1
    assert on.scheduler.demands.is_empty()


def test_a_newer_request_breaks_no_hold_of_an_older_session() -> None:
    on = Stage(Shape(blocks=16, options=OBEDIENT))
    for name in ("a", "b", "c"):
        paused(on, name, 5)
    on.request("running", BLOCK_SIZE - 1, 60)
    on.harness.run(until=lambda: bool(on.scheduler.running))
    counters(on)
    late = on.engine.request("late", on.words(60), max_tokens=1)
    assert on.scheduler.kv_cache_manager.allocate_slots(late, 60) is None
    assert counter_key("hold_endings", HoldEnding.RELEASED) not in counters(on)
    assert on.scheduler.demands.missing_blocks("late") > 0


def test_when_nothing_runs_any_request_breaks_any_hold() -> None:
    on = Stage(Shape(blocks=16, options=OBEDIENT))
    for name in ("a", "b", "c"):
        paused(on, name, 5)
    late = on.request("late", 200, 1)
    on.run()
    assert late.turns == 1


def test_a_running_request_breaks_any_hold() -> None:
    on = Stage(Shape(blocks=16, options=OBEDIENT))
    for name in ("a", "b", "c"):
        paused(on, name, 5)
    late = on.request("late", BLOCK_SIZE - 1, 40)
    on.run()
    assert late.turns == 1
    assert counters(on)[counter_key("hold_endings", HoldEnding.RELEASED)] >= 1


def test_the_pause_of_a_returning_session_ends_when_it_gets_its_blocks() -> None:
    on = Stage(Shape(blocks=16, options=PRESERVE))
    session = paused(on, "session", 4)
    on.extend(session, 20)
    assert on.scheduler.keeper.table.claimed_by("session") is not None
    counters(on)
    on.run()
    counted = counters(on)
    assert counted[counter_key("held_tokens")] == 4 * BLOCK_SIZE - 1
    assert not any("recomputed_tokens" in key for key in counted)
    assert counted[counter_key("pause_endings", "client", "resumed")] == 1


def test_a_waiting_request_leaves_running_ones_headroom_while_contexts_pause() -> None:
    on = Stage(Shape(blocks=16, options=OBEDIENT))
    paused(on, "session", 1)
    pause = on.scheduler.keeper.table.get("session")
    assert pause is not None
    on.request("running", 9 * BLOCK_SIZE - 5, 60)
    on.harness.run(until=lambda: bool(on.scheduler.running) and on.free_blocks == 6)
    waiting = on.engine.request("waiting", on.words(5 * BLOCK_SIZE), max_tokens=1)
    on.scheduler.keeper.forget_contexts()
    assert on.free_blocks == 7
    manager = on.scheduler.kv_cache_manager
    assert manager.allocate_slots(waiting, 6 * BLOCK_SIZE) is None, "only five: two are kept free"
    assert manager.allocate_slots(waiting, 5 * BLOCK_SIZE) is not None


def test_without_a_pause_vllms_own_admission_stands() -> None:
    on = Stage(Shape(blocks=16, options=OBEDIENT))
    on.request("running", 9 * BLOCK_SIZE - 5, 60)
    on.harness.run(until=lambda: bool(on.scheduler.running))
    waiting = on.engine.request("waiting", on.words(5 * BLOCK_SIZE), max_tokens=1)
    free = on.free_blocks
    assert on.scheduler.kv_cache_manager.allocate_slots(waiting, free * BLOCK_SIZE) is not None
