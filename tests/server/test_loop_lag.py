"""The lag of the event loop is measured."""

import asyncio
from argparse import Namespace

import pytest
from prometheus_client import CollectorRegistry
from starlette.datastructures import State

from caesura.server.loop_lag import PERIOD_SECONDS, LoopLag
from caesura.session.supervisor import Supervisor
from session.workplace import eventually
from support.waiting import pass_time


async def test_whoever_blocks_the_loop_is_seen() -> None:
    registry = CollectorRegistry()
    state = State({"caesura_supervisor": Supervisor()})
    async with LoopLag(registry).running(object(), state, Namespace()):
        await asyncio.sleep(0)
        await pass_time(PERIOD_SECONDS + 10)
        await eventually(lambda: registry.get_sample_value("caesura_event_loop_lag_seconds_count"))
    lag_seconds = registry.get_sample_value("caesura_event_loop_lag_seconds_sum")
    assert lag_seconds == pytest.approx(10, abs=1)
