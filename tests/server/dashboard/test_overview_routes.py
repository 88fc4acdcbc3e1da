"""The overview over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from caesura.server.dashboard.overview import FIELDS
from caesura.session.agents import Agents
from caesura.session.records import EventType
from session.workplace import OWNER, spec, until, workplace
from support.dashboard.stage import make_app, served


@asynccontextmanager
async def server(path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Agents]]:
    async with workplace(path / "db") as work:
        made = Agents(work)
        async with served(make_app(work, made)) as url, httpx.AsyncClient(base_url=url) as client:
            yield client, made
        await made.stop()


async def test_the_overview_shows_numbers_of_all_owners_and_nothing_else(tmp_path: Path) -> None:
    async with server(tmp_path) as (client, agents):
        agent = await agents.create(OWNER, spec("a secret"))
        await until(agent, EventType.PHASE, phase="idle")
        async with client.stream("GET", "/v1/caesura/overview/events") as stream:
            samples = 0  # the first may be from before the session
            async for line in stream.aiter_lines():
                samples += line.startswith("data:")
                if samples == 2:
                    break
        response = await client.get("/v1/caesura/overview")
    overview = response.json()
    assert overview["sessions"]["by_phase"] == {"generating": 0, "calling": 0, "idle": 1}
    assert overview["engine"] is None
    assert "secret" not in response.text
    assert agent.id not in response.text


async def test_the_history_names_the_values_of_its_points(tmp_path: Path) -> None:
    async with server(tmp_path) as (client, _):
        page = (await client.get("/v1/caesura/overview/history?seconds=60")).json()
    assert page["fields"] == list(FIELDS)
    assert page["object"] == "overview.history"
    assert [len(point) for point in page["points"]] == [1 + len(FIELDS)] * len(page["points"])


async def test_more_history_than_is_kept_is_refused(tmp_path: Path) -> None:
    async with server(tmp_path) as (client, _):
        for seconds in ("0", "1e9", "nan", "soon"):
            response = await client.get(f"/v1/caesura/overview/history?seconds={seconds}")
            assert response.status_code == 422


async def test_events_are_overviews(tmp_path: Path) -> None:
    async with server(tmp_path) as (client, _):
        async with client.stream("GET", "/v1/caesura/overview/events") as stream:
            lines = stream.aiter_lines()
            kind, data = await anext(lines), await anext(lines)
        overview = (await client.get("/v1/caesura/overview")).json()
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert kind == "event: overview"
    assert json.loads(data.removeprefix("data: ")).keys() == overview.keys()


async def test_an_open_stream_does_not_keep_the_server_from_stopping(tmp_path: Path) -> None:
    async with workplace(tmp_path / "db") as work, AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient())
        async with asyncio.timeout(20), served(make_app(work, Agents(work))) as url:
            events = f"{url}/v1/caesura/overview/events"
            stream = await stack.enter_async_context(client.stream("GET", events))
            lines = stream.aiter_lines()
            assert await anext(lines) == "event: overview"
        rest = [line async for line in lines]
    assert rest[-1] == "", "the last event is complete"
