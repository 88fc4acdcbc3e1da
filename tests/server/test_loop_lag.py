"""The lag of the event loop is measured."""

import asyncio
import time
from argparse import Namespace

from prometheus_client import CollectorRegistry
from starlette.datastructures import State

from caesura.server.loop_lag import PERIOD_SECONDS, LoopLag
from session.workplace import eventually


async def test_whoever_blocks_the_loop_is_seen() -> None:
    registry = CollectorRegistry()
    part = LoopLag(registry)
    await part.start(object(), State(), Namespace())
    await asyncio.sleep(0)
    time.sleep(PERIOD_SECONDS + 0.3)  # noqa: ASYNC251
    await eventually(lambda: registry.get_sample_value("caesura_event_loop_lag_seconds_count"))
    await part.stop()
    assert registry.get_sample_value("caesura_event_loop_lag_seconds_sum") > 0.25
