"""The virtual device finds what it is there to find."""

import pytest

from engine.virtual.device import KvCorruption
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.runners import RunnerVersion
from engine.virtual.stage import Player, Stage, every_mode


def stage_with_a_running_session(shape: Shape) -> tuple[Stage, Player]:
    stage = Stage(shape)
    session = stage.session("session", 40, max_tokens=50)
    stage.harness.run(until=lambda: session.tokens > 5)
    return stage, session


@every_mode()
def test_without_faults_nothing_is_found(in_flight: int, runner: RunnerVersion) -> None:
    stage, session = stage_with_a_running_session(Shape(in_flight=in_flight, runner=runner))
    stage.run()
    assert session.tokens == 50
    stage.harness.abort("session", mid_step=False)
    stage.run()
    stage.engine.idle_books()


@every_mode()
def test_an_overwritten_block_is_found(in_flight: int, runner: RunnerVersion) -> None:
    stage, _ = stage_with_a_running_session(Shape(in_flight=in_flight, runner=runner))
    block = stage.scheduler.kv_cache_manager.get_block_ids("session")[0][0]
    stage.engine.device.blocks[block][3] += 1
    with pytest.raises(KvCorruption, match="at position 3 "):
        stage.run()


@every_mode()
def test_a_block_that_is_freed_too_early_is_found(in_flight: int, runner: RunnerVersion) -> None:
    shape = Shape(blocks=16, max_model_len=256, in_flight=in_flight, runner=runner)
    stage, _ = stage_with_a_running_session(shape)
    manager = stage.scheduler.kv_cache_manager
    manager.block_pool.free_blocks(manager.get_blocks("session").blocks[0])
    stage.request("other", 15 * BLOCK_SIZE, max_tokens=1)
    with pytest.raises(KvCorruption):
        stage.run()


def test_a_token_that_changes_between_turns_is_found() -> None:
    stage, session = stage_with_a_running_session(Shape())
    stage.run()
    request = stage.scheduler.requests["session"]
    request._all_token_ids[45] += 1
    request._output_token_ids[5] += 1
    stage.extend(session, 5)
    with pytest.raises(KvCorruption, match="at position 45 "):
        stage.run()


def test_a_token_that_is_lost_is_found() -> None:
    stage, session = stage_with_a_running_session(Shape())
    stage.run()
    request = stage.scheduler.requests["session"]
    del request._all_token_ids[-1], request._output_token_ids[-1]
    stage.extend(session, 5)
    with pytest.raises(AssertionError, match="session got"):
        stage.run()


def test_a_wrong_host_copy_is_found_when_it_is_loaded() -> None:
    options = {"policy": "swap", "load_in_step": False}
    stage, session = stage_with_a_running_session(
        Shape(connected=True, host_blocks=64, options=options)
    )
    stage.run()
    stage.forget_device_copies()
    for slot in stage.engine.device.host:
        slot[0] += 1
    stage.extend(session, 5)
    with pytest.raises(KvCorruption, match="at position 0 "):
        stage.run()
