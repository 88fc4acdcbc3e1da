"""Agents on the fake engine, with real tools."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from caesura.session.agent import Agent
from caesura.session.agents import Agents
from caesura.session.approvals import Approvals
from caesura.session.call_format import CallFormats
from caesura.session.limits import Limits
from caesura.session.records import CallRecord, Event, EventType, SessionSpec
from caesura.session.store import Store
from caesura.session.workplace import Workplace
from caesura.tools.endpoint import Endpoint
from caesura.tools.executor import Executor
from caesura.tools.python_endpoint import PythonEndpoint
from caesura.tools.settings import PythonTool
from caesura.tools.toolbox import Toolbox
from session.scripted import END, ByteDialogue, model
from support.databases.places import place_of
from support.engines.fakes import FakeEngine

OWNER = "somebody"


def tool(function: Callable[..., Any], **settings: Any) -> PythonEndpoint:
    made = PythonTool(type="python", callable="tests:function", **settings)
    return PythonEndpoint(function.__name__, made, function)


class Gate:
    """A tool whose calls end when they are told to."""

    def __init__(self) -> None:
        self.open: dict[int, asyncio.Event] = {}
        self.ran: list[int] = []

    def __getitem__(self, x: int) -> asyncio.Event:
        return self.open.setdefault(x, asyncio.Event())

    @property
    def tool(self) -> Callable[[int], Awaitable[str]]:
        async def wait(x: int) -> str:
            """Wait."""
            self.ran.append(x)
            await self[x].wait()
            return f"came {x}"

        return wait


@asynccontextmanager
async def workplace(
    path: Path,
    *tools: Endpoint,
    engine: FakeEngine | None = None,
    formats: CallFormats | None = None,
    clock: Callable[[], float] = time.time,
    limits: Limits | None = None,
    lease_seconds: float | None = None,
) -> AsyncIterator[Workplace]:
    store = Store(place_of(path), clock)
    replicas = None
    if lease_seconds is not None:
        from caesura.session.replicas import Replicas, Served

        names = tuple(endpoint.definition.name for endpoint in tools)
        replicas = Replicas(
            store.backend, Served("a model", "demo", names, "http://here"), lease_seconds
        )
    toolbox = Toolbox({endpoint.definition.name: endpoint for endpoint in tools})
    try:
        yield Workplace(
            engine or FakeEngine(END, model),
            ByteDialogue(),
            Executor(toolbox, registry=CollectorRegistry()),
            store,
            Approvals(store),
            formats or CallFormats(),
            limits or Limits(),
            replicas=replicas,
        )
    finally:
        store.close()


@asynccontextmanager
async def agents(
    path: Path,
    *tools: Endpoint,
    engine: FakeEngine | None = None,
    formats: CallFormats | None = None,
    clock: Callable[[], float] = time.time,
    **limits: Any,
) -> AsyncIterator[Agents]:
    made_limits = Limits(**limits)
    async with workplace(
        path, *tools, engine=engine, formats=formats, clock=clock, limits=made_limits
    ) as work:
        made = Agents(work)
        await made.start()
        try:
            yield made
        finally:
            await made.stop()


def spec(plan: str, **fields: Any) -> SessionSpec:
    return SessionSpec(
        messages=[{"role": "user", "content": plan}], max_tokens=100_000, temperature=0, **fields
    )


def store_of(all_agents: Agents) -> Store:
    return all_agents._work.store


async def calls_of(store: Store, session_id: str) -> list[CallRecord]:
    """A session's calls, in the order in which they were reported."""
    issued = [e for e in await store.events(session_id) if e.type is EventType.CALL]
    found = [await store.call(event.data["call_id"]) for event in issued]
    return [record for record in found if record is not None]


async def until(agent: Agent, kind: EventType, after: int = 0, **data: Any) -> Event:
    """The first event of a kind, with these data."""
    async with asyncio.timeout(20):
        async for event in agent.events.follow(after):
            if event.type is kind and data.items() <= event.data.items():
                return event
    raise AssertionError(f"the session ended without {kind} {data}")


async def eventually(condition: Callable[[], object]) -> None:
    """Let others run until it holds."""
    async with asyncio.timeout(20):
        for _ in count():
            if condition():
                return
            await asyncio.sleep(0)


async def stored(condition: Callable[[], Awaitable[object]]) -> None:
    """Let others run until it holds of what is stored."""
    async with asyncio.timeout(20):
        for _ in count():
            if await condition():
                return


def texts(told: Sequence[Event]) -> str:
    """What the model has answered."""
    return "".join(e.data["text"] for e in told if e.type is EventType.OUTPUT)


async def events(agent: Agent) -> list[Event]:
    """All events, once the session has ended."""
    async with asyncio.timeout(20):
        return [event async for event in agent.events.follow()]
