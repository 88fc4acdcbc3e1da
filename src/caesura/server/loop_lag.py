"""How late the event loop is: what every client of the server waits in addition."""

import asyncio
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from starlette.datastructures import State

from caesura.session.supervisor import Supervisor

PERIOD_SECONDS = 0.02
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class LoopLag:
    """Measures by how much a short sleep is overslept.

    Args:
        registry: where the metric goes.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry

    def attach(self, app: FastAPI) -> None:
        """There are no routes."""

    @asynccontextmanager
    async def running(
        self, engine_client: object, state: State, args: Namespace
    ) -> AsyncIterator[None]:
        """Measure."""
        lag = Histogram(
            "caesura_event_loop_lag_seconds",
            "Delay of the server's event loop.",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        supervisor: Supervisor = state.caesura_supervisor
        supervisor.start("loop-lag", partial(_measure, lag))
        try:
            yield
        finally:
            await supervisor.stop("loop-lag")


async def _measure(lag: Histogram) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due_seconds = loop.time() + PERIOD_SECONDS
        await asyncio.sleep(PERIOD_SECONDS)
        lag.observe(max(0.0, loop.time() - due_seconds))
