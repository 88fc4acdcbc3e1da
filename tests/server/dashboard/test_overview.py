"""Samples of sessions that really run, on the fake engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from caesura.server.dashboard.overview import FIELDS, Activity, Overviews
from caesura.session.agents import Agents
from caesura.session.records import EventType
from caesura.tools.call import Answer
from session.workplace import OWNER, agents, spec, tool, until


async def look_up(city: str) -> str:
    return f"sun in {city}"


async def hang() -> str:
    await asyncio.Event().wait()
    return "never"


@asynccontextmanager
async def sampled(path: Path) -> AsyncIterator[tuple[Agents, Overviews]]:
    async with agents(path / "db", tool(look_up, approve=True), tool(hang)) as made:
        yield made, Overviews(made, CollectorRegistry())


async def test_each_open_session_is_counted_once_by_what_it_does(tmp_path: Path) -> None:
    async with sampled(tmp_path) as (made, overviews):
        asks = await made.create(OWNER, spec('<<look_up {"city": "Oslo"}>>'))
        calls = await made.create(OWNER, spec("<<hang {}>>"))
        idle = await made.create("somebody else", spec("hello"))
        held = await made.create(OWNER, spec("hello"))
        ended = await made.create(OWNER, spec("hello", keep_open=False))
        await until(asks, EventType.ASKED)
        await until(calls, EventType.DISPATCHED)
        await until(idle, EventType.PHASE, phase="idle")
        await until(held, EventType.PHASE, phase="idle")
        await held.hold(True)
        await until(ended, EventType.ENDED)
        sessions = (await overviews.sample()).sessions
    assert sessions.open == 4
    assert sessions.by_phase == {"generating": 0, "calling": 2, "idle": 2}
    assert sessions.by_activity == {
        Activity.GENERATING: 0,
        Activity.CALLING: 1,
        Activity.WAITING_FOR_HUMAN: 1,
        Activity.IDLE: 1,
        Activity.HELD: 1,
    }


async def test_a_question_waits_until_it_is_answered(tmp_path: Path) -> None:
    async with sampled(tmp_path) as (made, overviews):
        agent = await made.create(OWNER, spec('<<look_up {"city": "Oslo"}>>'))
        asked = await until(agent, EventType.ASKED)
        assert (await overviews.sample()).approvals_waiting == 1
        await made.answer(OWNER, str(asked.data["approval_id"]), Answer(True))
        await until(agent, EventType.PHASE, phase="idle")
        assert (await overviews.sample()).approvals_waiting == 0


async def test_a_session_that_ends_takes_its_questions_along(tmp_path: Path) -> None:
    async with sampled(tmp_path) as (made, overviews):
        agent = await made.create(OWNER, spec('<<look_up {"city": "Oslo"}>>'))
        await until(agent, EventType.ASKED)
        await agent.cancel()
        await until(agent, EventType.ENDED)
        overview = await overviews.sample()
    assert (overview.approvals_waiting, overview.sessions.open) == (0, 0)


async def test_the_history_has_a_value_per_field(tmp_path: Path) -> None:
    async with sampled(tmp_path) as (made, overviews):
        agent = await made.create(OWNER, spec("hello"))
        await until(agent, EventType.PHASE, phase="idle")
        overview = await overviews.sample()
        (point,) = overviews.since(60)
    values = dict(zip(FIELDS, point[1:], strict=True))
    assert point[0] == overview.time
    assert values["sessions.by_activity.idle"] == 1
    assert values["engine.running"] is None  # there is no engine to ask


async def test_whoever_follows_gets_each_new_sample_and_an_end(tmp_path: Path) -> None:
    async with sampled(tmp_path) as (_, overviews):
        sampling = asyncio.create_task(overviews.run())
        follow = overviews.follow()
        first, second = await anext(follow), await anext(follow)
        assert second.time > first.time
        sampling.cancel()
        overviews.stop()
        with pytest.raises(StopAsyncIteration):
            await anext(follow)


async def test_a_server_without_sessions_has_an_overview() -> None:
    overview = await Overviews(None, CollectorRegistry()).latest()
    assert (overview.sessions.open, overview.engine, overview.tools) == (0, None, ())


async def test_tools_are_those_that_are_configured(tmp_path: Path) -> None:
    async with sampled(tmp_path) as (_, overviews):
        assert [tool.name for tool in (await overviews.sample()).tools] == ["hang", "look_up"]
