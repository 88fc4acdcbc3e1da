"""Sessions and requests end at awkward moments, and leave nothing behind."""

import pytest
from vllm.v1.engine import FinishReason

from engine.virtual.device import CopyBehaviour
from engine.virtual.engine import Shape
from engine.virtual.runners import RunnerVersion
from engine.virtual.stage import Player, Stage, every_mode

PRESERVE = {"policy": "preserve", "check_integrity": True}


@every_mode()
def test_a_returning_session_is_aborted(in_flight: int, runner: RunnerVersion) -> None:
    stage = Stage(Shape(in_flight=in_flight, runner=runner, options=PRESERVE))
    session = stage.session("session", 60)
    stage.run()
    stage.extend(session, 20)
    stage.harness.abort("session", mid_step=False)
    stage.run()
    stage.engine.idle_books()


@every_mode()
def test_a_session_is_aborted_while_its_context_is_loaded(
    in_flight: int, runner: RunnerVersion
) -> None:
    stage = Stage(loading_slowly(in_flight, runner))
    session = stage.session("session", 100)
    stage.run()
    stage.forget_device_copies()
    stage.extend(session, 20)
    stage.harness.run(until=lambda: bool(stage.engine.device.copying))
    stage.harness.abort("session", mid_step=False)
    stage.run()
    stage.engine.idle_books()


@every_mode()
def test_a_context_whose_copies_cannot_be_loaded_is_computed(
    in_flight: int, runner: RunnerVersion
) -> None:
    shape = loading_slowly(in_flight, runner, CopyBehaviour(loads_fail=True))
    stage = Stage(shape)
    session = stage.session("session", 100)
    stage.run()
    stage.forget_device_copies()
    stage.extend(session, 20)
    stage.run()
    assert session.turns == 2


def test_a_load_that_fails_in_its_step_takes_the_step_back() -> None:
    shape = Shape(
        connected=True,
        host_blocks=64,
        budget_blocks=16,
        copies=CopyBehaviour(loads_fail=True),
        options={"policy": "swap", "load_in_step": True, "check_integrity": True},
    )
    stage = Stage(shape)
    session = stage.session("session", 100)
    stage.run()
    stage.forget_device_copies()
    stage.extend(session, 20, max_tokens=5)
    twin = Player(stage.harness, "twin", session.transcript.tokens)
    stage.submit(twin, 5)
    stage.run()
    assert session.turns == 2
    assert twin.turns == 1


def test_what_a_preempted_request_did_not_compute_is_not_found_by_anybody() -> None:
    """Under priority scheduling a request may be preempted after it was scheduled."""
    stage = Stage(Shape(max_num_batched_tokens=32, queue="priority", options=PRESERVE))
    player = stage.request("request", 100, max_tokens=3)
    request = stage.scheduler.requests["request"]
    stage.harness.run(until=lambda: request.num_computed_tokens == 32)
    assert stage.scheduler.kv_cache_manager.allocate_slots(request, 40) is not None
    stage.scheduler.running.remove(request)
    stage.scheduler._preempt_request(request, 0.0)
    stage.run()
    assert player.turns == 1


@pytest.mark.parametrize("in_flight", [1, 2])
def test_interrupted_sessions_give_their_slots_back(in_flight: int) -> None:
    """A session that returns may be admitted before one that was just interrupted."""
    stage = Stage(
        Shape(max_num_seqs=1, in_flight=in_flight, runner=RunnerVersion.V2, options=PRESERVE)
    )
    old = stage.session("old", 30)
    stage.run()
    young = stage.session("young", 30, max_tokens=20)
    stage.harness.run(until=lambda: young.tokens > 3)
    stage.extend(old, 10)
    chunk = stage.append_later(young, 10)
    stage.harness.run(until=lambda: young.turns > 0)
    young.transcript.append(chunk)
    stage.run()
    assert [old.turns, young.turns] == [2, 2]


@every_mode()
def test_tokens_for_a_session_that_was_just_let_go_do_not_start_another(
    in_flight: int, runner: RunnerVersion
) -> None:
    """They would be taken for a whole prompt."""
    options = PRESERVE | {"max_pauses": 1}
    stage = Stage(Shape(in_flight=in_flight, runner=runner, options=options))
    first = stage.session("first", 40)
    stage.run()
    second = stage.session("second", 40)
    stage.run()
    assert (first.detached, second.detached) == (True, False)
    stage.append_later(first, 10)
    stage.run()
    assert first.turns == 1
    assert "first" not in stage.scheduler.requests


@every_mode()
@pytest.mark.parametrize("reset_connector", [False, True])
def test_a_reset_of_the_prefix_cache_forgets_paused_contexts(
    in_flight: int, runner: RunnerVersion, reset_connector: bool
) -> None:
    shape = Shape(
        in_flight=in_flight,
        runner=runner,
        connected=True,
        host_blocks=64,
        budget_blocks=16,
        options={"policy": "swap", "check_integrity": True},
    )
    stage = Stage(shape)
    session = stage.session("session", 100)
    stage.run()
    (pause,) = stage.scheduler.keeper.table
    host = stage.host
    assert host.used_slots > 0
    assert pause.copy_requested
    assert stage.scheduler.reset_prefix_cache(reset_connector=reset_connector)
    assert host.used_slots == 0
    assert (pause.copied_tokens, pause.copy_requested) == (0, False)
    stage.extend(session, 20)
    stage.run()
    assert session.turns == 2


@every_mode()
def test_a_reset_while_copies_are_under_way_says_so(in_flight: int, runner: RunnerVersion) -> None:
    stage = Stage(loading_slowly(in_flight, runner))
    stage.session("session", 100)
    host = stage.host
    stage.harness.run(until=lambda: host.pinned_slots > 0)
    assert not stage.scheduler.reset_prefix_cache(reset_connector=True)
    stage.run()
    assert stage.scheduler.reset_prefix_cache(reset_connector=True)
    assert host.used_slots == 0


def loading_slowly(
    in_flight: int, runner: RunnerVersion, copies: CopyBehaviour | None = None
) -> Shape:
    return Shape(
        in_flight=in_flight,
        runner=runner,
        connected=True,
        host_blocks=64,
        budget_blocks=16,
        copies=copies or CopyBehaviour(most_delay_steps=8),
        options={"policy": "swap", "load_in_step": False, "check_integrity": True},
    )


@every_mode()
def test_what_is_appended_and_fills_the_context_ends_the_turn_by_its_length(
    in_flight: int, runner: RunnerVersion
) -> None:
    stage = Stage(Shape(in_flight=in_flight, runner=runner, options=PRESERVE))
    interrupted = stage.session("interrupted", 100, max_tokens=6)
    stage.harness.run(until=lambda: interrupted.tokens > 0)
    chunk = stage.append_later(interrupted, 156)
    stage.harness.run(until=lambda: interrupted.turns > 0)
    interrupted.transcript.append(chunk)
    paused = stage.session("paused", 100)
    stage.harness.run(until=lambda: paused.turns > 0)
    stage.extend(paused, 156)
    stage.run()
    assert interrupted.endings == [FinishReason.STOP, FinishReason.LENGTH]
    assert paused.endings == [FinishReason.LENGTH, FinishReason.LENGTH]
    assert interrupted.detached
    assert paused.detached
    stage.engine.idle_books()
