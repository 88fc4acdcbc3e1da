"""The check of all books: what is left behind is named."""

from collections.abc import Callable

import pytest

from caesura.engine.pauses.demands import RETRY_SECONDS
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.stage import Stage


def idle() -> Stage:
    """An engine that has had a session, which is gone."""
    shape = Shape(connected=True, host_blocks=16, options={"policy": "swap"})
    stage = Stage(shape)
    stage.session("session", 3 * BLOCK_SIZE)
    stage.run()
    stage.harness.abort("session", mid_step=False)
    stage.run()
    return stage


def leave_a_demand(on: Stage) -> None:
    needy = on.engine.request("needy", [1] * 40, max_tokens=1)
    on.engine.now_seconds += RETRY_SECONDS
    on.scheduler.demands.reclaim(needy, 1000, running=False, idle=False)


def leave_a_stopped_session(on: Stage) -> None:
    on.scheduler.parking.stop(on.engine.request("session", [1] * 40, max_tokens=1))


def leave_a_host_copy(on: Stage) -> None:
    on.scheduler.keeper.contexts.enter("session", [])


def leave_a_reference(on: Stage) -> None:
    pool = on.scheduler.kv_cache_manager.block_pool
    pool.get_new_blocks(1)


def leave_a_name(on: Stage) -> None:
    on.scheduler.continuations.name_next("session", "human")


@pytest.mark.parametrize(
    ("leave", "message"),
    [
        (leave_a_demand, "demands"),
        (leave_a_stopped_session, "parked sessions"),
        (leave_a_host_copy, "host copies"),
        (leave_a_reference, "holds account for 0"),
        (leave_a_name, "continuations"),
    ],
)
def test_what_is_left_behind_is_named(leave: Callable[[Stage], None], message: str) -> None:
    stage = idle()
    stage.scheduler.check_idle()
    leave(stage)
    with pytest.raises(AssertionError, match=message):
        stage.scheduler.check_idle()
