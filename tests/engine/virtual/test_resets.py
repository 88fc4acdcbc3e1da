"""All cached contexts are forgotten, as after new weights, at any moment."""

import pytest
from vllm.v1.core.sched.interface import PauseState

from engine.virtual.engine import Shape
from engine.virtual.runners import RunnerVersion
from engine.virtual.stage import Player, Stage, every_mode
from engine.virtual.test_endings import loading_slowly

STEPS = range(40)  # until the turns below have ended


def returning_beside_a_turn(shape: Shape, steps: int) -> tuple[Stage, Player, Player]:
    """So many steps after a swapped session returned and another's turn began."""
    stage = Stage(shape)
    returning = stage.session("returning", 100)
    stage.run()
    stage.forget_device_copies()
    beside = stage.session("beside", 60, max_tokens=12)
    stage.extend(returning, 20, max_tokens=3)
    last = stage.harness.steps + steps
    stage.harness.run(until=lambda: stage.harness.steps >= last)
    return stage, returning, beside


@every_mode()
@pytest.mark.parametrize("state", [PauseState.PAUSED_ALL, PauseState.PAUSED_NEW])
def test_a_stopped_engine_forgets_all_and_goes_on(
    in_flight: int, runner: RunnerVersion, state: PauseState
) -> None:
    """As vLLM stops its engine to sleep or for new weights: its work is ended first."""
    for steps in STEPS:
        shape = loading_slowly(in_flight, runner)
        stage, returning, beside = returning_beside_a_turn(shape, steps)
        stage.scheduler.set_pause_state(state)
        stage.run()
        assert stage.scheduler.reset_prefix_cache(
            reset_running_requests=True, reset_connector=True
        ), f"after {steps} steps"
        assert stage.host.used_slots == 0
        stage.scheduler.set_pause_state(PauseState.UNPAUSED)
        stage.run()
        assert (returning.turns, beside.turns) == (2, 1)


@every_mode()
def test_a_running_engine_forgets_all_or_says_that_it_cannot(
    in_flight: int, runner: RunnerVersion
) -> None:
    """Nothing is raised, which would end the engine, and all go on exactly."""
    forgotten = set()
    for steps in STEPS:
        shape = loading_slowly(in_flight, runner)
        stage, returning, beside = returning_beside_a_turn(shape, steps)
        done = stage.scheduler.reset_prefix_cache(reset_running_requests=True)
        assert not done or stage.host.used_slots == 0
        stage.run()
        assert (returning.turns, beside.turns) == (2, 1)
        forgotten.add(done)
    assert forgotten == {False, True}
