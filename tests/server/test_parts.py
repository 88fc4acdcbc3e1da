"""Parts of the server start in order, and stop in the other one."""

from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI
from starlette.datastructures import State

from caesura.server.parts import Parts


class Recorded:
    """A part that says what is done with it."""

    def __init__(self, name: str, events: list[str], *, fails: bool = False) -> None:
        self._name = name
        self._events = events
        self._fails = fails

    def attach(self, app: FastAPI) -> None:
        self._events.append(f"attach {self._name}")

    @asynccontextmanager
    async def running(
        self, engine_client: object, state: State, args: Namespace
    ) -> AsyncIterator[None]:
        if self._fails:
            raise RuntimeError(self._name)
        self._events.append(f"start {self._name}")
        try:
            yield
        finally:
            self._events.append(f"stop {self._name}")


async def run(parts: Parts) -> None:
    """The life of a server, as vLLM leads it."""
    app = FastAPI()
    parts.attach(app)
    await parts.start(object(), app.state, Namespace())
    async with app.router.lifespan_context(app):
        pass


async def test_parts_stop_with_the_application() -> None:
    events: list[str] = []
    await run(Parts([Recorded("one", events), Recorded("two", events)]))
    assert events == ["attach one", "attach two", "start one", "start two", "stop two", "stop one"]


async def test_a_part_that_fails_stops_those_before_it() -> None:
    events: list[str] = []
    parts = Parts([Recorded("one", events), Recorded("two", events, fails=True)])
    with pytest.raises(RuntimeError, match="two"):
        await run(parts)
    assert events == ["attach one", "attach two", "start one", "stop one"]
