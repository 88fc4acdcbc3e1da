"""All sessions: owners, limits, restarts."""

import asyncio
import json
from pathlib import Path

import pytest

from caesura.session.agent import Agent
from caesura.session.agents import Agents
from caesura.session.database import Statement
from caesura.session.errors import UnknownSession
from caesura.session.records import ApprovalState, EventType, Phase, SessionEnding
from caesura.session.store.clock import SteadyClock
from caesura.tools.call import Answer, CallEnding
from session.workplace import (
    OWNER,
    agents,
    calls_of,
    events,
    eventually,
    spec,
    store_of,
    tool,
    until,
    workplace,
)

ON_EACH_DATABASE = True


async def test_sessions_belong_to_their_owner(tmp_path: Path) -> None:
    async with agents(tmp_path / "db") as all_agents:
        mine = await all_agents.create(OWNER, spec("hello"))
        assert [record.id for record in await all_agents.sessions(OWNER)] == [mine.id]
        assert await all_agents.sessions("somebody else") == []
        for look in (all_agents.get, all_agents.agent):
            with pytest.raises(UnknownSession):
                await look("somebody else", mine.id)
            with pytest.raises(UnknownSession):
                await look(OWNER, "sess_unknown")


async def test_an_approval_survives_a_restart(tmp_path: Path) -> None:
    ran = []

    def risky() -> str:
        """Do it."""
        ran.append(1)
        return "did it"

    endpoint = tool(risky, approve=True)
    async with agents(tmp_path / "db", endpoint) as all_agents:
        agent = await all_agents.create(OWNER, spec("<<risky {}>>\nend", keep_open=False))
        await until(agent, EventType.ASKED)
    async with agents(tmp_path / "db", endpoint) as all_agents:
        (agent,) = all_agents.running
        (waiting,) = await store_of(all_agents).approvals(OWNER, ApprovalState.WAITING)
        with pytest.raises(UnknownSession):
            await all_agents.answer("somebody else", waiting.question.key, Answer(True))
        assert await all_agents.answer(OWNER, waiting.question.key, Answer(True))
        told = await events(agent)
    assert ran == [1]
    assert sum(event.type is EventType.ASKED for event in told) == 1
    assert told[-1].data["ending"] == SessionEnding.COMPLETED


async def test_an_answer_given_while_the_server_was_down_counts(tmp_path: Path) -> None:
    def risky() -> str:
        """Do it."""
        return "did it"

    endpoint = tool(risky, approve=True)
    async with agents(tmp_path / "db", endpoint) as all_agents:
        agent = await all_agents.create(OWNER, spec("<<risky {}>>\nend", keep_open=False))
        asked = await until(agent, EventType.ASKED)
        await all_agents.stop()
        assert await all_agents.answer(OWNER, asked.data["approval_id"], Answer(True))
    async with agents(tmp_path / "db", endpoint) as all_agents:
        (agent,) = all_agents.running
        assert (await events(agent))[-1].data["ending"] == SessionEnding.COMPLETED


async def test_a_call_under_way_is_reported_not_repeated(tmp_path: Path) -> None:
    runs = []

    async def once() -> str:
        """Hang the first time."""
        runs.append(1)
        await asyncio.Event().wait()
        return "never"

    async with agents(tmp_path / "db", tool(once)) as all_agents:
        agent = await all_agents.create(OWNER, spec("<<once {}>>\nend", keep_open=False))
        await until(agent, EventType.DISPATCHED)
        await eventually(lambda: runs)
    async with agents(tmp_path / "db", tool(once)) as all_agents:
        (agent,) = all_agents.running
        result = await until(agent, EventType.RESULT)
        assert result.data["ending"] == CallEnding.INTERRUPTED
        await until(agent, EventType.ENDED, after=result.number)
    assert runs == [1]


async def test_messages_survive_a_restart(tmp_path: Path) -> None:
    async def wait() -> str:
        """Wait for ever, but only once."""
        await asyncio.Event().wait()
        return ""

    async with agents(tmp_path / "db", tool(wait)) as all_agents:
        agent = await all_agents.create(OWNER, spec("<<wait {}>>\nend"))
        await until(agent, EventType.DISPATCHED)
        await agent.steer("hurry")
    async with agents(tmp_path / "db", tool(wait)) as all_agents:
        (agent,) = all_agents.running
        output = await until(agent, EventType.OUTPUT, turn=2)
    assert output.data["text"] == "heard: . hurry"


async def test_a_turn_that_a_crash_cut_off_is_told_and_costs_nothing(tmp_path: Path) -> None:
    async with agents(tmp_path / "db") as all_agents:
        agent = await all_agents.create(OWNER, spec("x" * 10_000, keep_open=False, max_turns=1))
        await until(agent, EventType.TEXT)
    async with agents(tmp_path / "db") as all_agents:
        (agent,) = all_agents.running
        restarted = await until(agent, EventType.RESTARTED, turn=1)
        output = await until(agent, EventType.OUTPUT, after=restarted.number, turn=1)
        assert len(output.data["text"]) > 10_000
        assert (await events(agent))[-1].data["ending"] == SessionEnding.COMPLETED


async def test_what_a_client_waited_for_is_not_gone_on_with_without_it(tmp_path: Path) -> None:
    runs = []

    async def once() -> str:
        """Hang."""
        runs.append(1)
        await asyncio.Event().wait()
        return "never"

    async with agents(tmp_path / "db", tool(once)) as all_agents:
        agent = await all_agents.create(OWNER, spec("<<once {}>>\nend", attached=True))
        await eventually(lambda: runs)
    async with agents(tmp_path / "db", tool(once)) as all_agents:
        assert not all_agents.running
        told = await events(await all_agents.agent(OWNER, agent.id))
        assert told[-1].data["ending"] == SessionEnding.CANCELLED
    assert runs == [1]


async def test_a_session_whose_tool_is_gone_ends_with_an_error(tmp_path: Path) -> None:
    async def wait() -> str:
        """Wait."""
        await asyncio.Event().wait()
        return ""

    async with agents(tmp_path / "db", tool(wait)) as all_agents:
        agent = await all_agents.create(OWNER, spec("<<wait {}>>", tools=["wait"]))
        await until(agent, EventType.DISPATCHED)
    async with agents(tmp_path / "db") as all_agents:
        record = await all_agents.get(OWNER, agent.id)
        assert (record.phase, record.ending) == (Phase.ENDED, SessionEnding.FAILED)
        assert "'wait'" in str(record.error)
        told = await events(await all_agents.agent(OWNER, agent.id))
        assert told[-1].type is EventType.ENDED
        (call,) = await calls_of(store_of(all_agents), agent.id)
        assert call.result is not None


async def test_nothing_waits_for_a_session_that_is_over(tmp_path: Path) -> None:
    def risky() -> str:
        """Do it."""
        return "did it"

    async with agents(tmp_path / "db", tool(risky, approve=True)) as all_agents:
        agent = await all_agents.create(OWNER, spec("<<risky {}>>\nend"))
        asked = await until(agent, EventType.ASKED)
        await agent.steer("hurry")
        store = store_of(all_agents)
        assert [text for _, text in await store.messages(agent.id)] == ["hurry"]
        await agent.cancel()
        await events(agent)
        assert await store.messages(agent.id) == []
        question = await all_agents.approval(OWNER, asked.data["approval_id"])
        assert question.state is ApprovalState.WITHDRAWN


async def test_a_tool_that_does_not_exist_is_refused_at_once(tmp_path: Path) -> None:
    async with agents(tmp_path / "db") as all_agents:
        with pytest.raises(ValueError, match="'nothing'"):
            await all_agents.create(OWNER, spec("hello", tools=["nothing"]))
        assert await all_agents.sessions(OWNER) == []


async def test_the_sweep_ends_idle_sessions_and_forgets_ended_ones(tmp_path: Path) -> None:
    limits = {"idle_seconds": 0.0, "retention_seconds": 0.0}
    async with agents(tmp_path / "db", **limits) as all_agents:
        agent = await all_agents.create(OWNER, spec("hello"))
        await until(agent, EventType.OUTPUT)
        await eventually(lambda: agent.phase is Phase.IDLE)
        await all_agents.sweep()
        assert (await events(agent))[-1].data["ending"] == SessionEnding.EXPIRED
        await all_agents.sweep()
        with pytest.raises(UnknownSession):
            await all_agents.get(OWNER, agent.id)


async def break_row(all_agents: Agents, table: str, column: str, value: str, key: str) -> None:
    """Damage what is stored, as a newer version or a broken disk would."""
    name = "key" if table == "approvals" else "id" if table == "sessions" else "session_id"
    sql = f"UPDATE {table} SET {column} = ? WHERE {name} = ?"
    assert await store_of(all_agents).commit(Statement(sql, (value, key)))


async def test_a_session_that_cannot_be_read_keeps_no_other_from_going_on(tmp_path: Path) -> None:
    path = tmp_path / "db"
    async with agents(path) as all_agents:
        made = [await all_agents.create(OWNER, spec("hello")) for _ in range(4)]
        for agent in made:
            await until(agent, EventType.OUTPUT)
        await break_row(all_agents, "sessions", "spec", "not JSON", made[0].id)
        await break_row(all_agents, "sessions", "phase", "of a newer version", made[1].id)
        newer = json.dumps(made[2].spec.model_dump(mode="json") | {"newer": True})
        await break_row(all_agents, "sessions", "spec", newer, made[2].id)
        await break_row(all_agents, "events", "type", "of.a.newer.version", made[3].id)
    async with agents(path) as all_agents:
        assert {agent.id for agent in all_agents.running} == {made[2].id, made[3].id}
        listed = await all_agents.sessions(OWNER)
        assert {record.id for record in listed} == {made[1].id, made[2].id, made[3].id}
        assert await store_of(all_agents).events(made[3].id) == []
        ended = await all_agents.get(OWNER, made[1].id)
        assert ended.ending is SessionEnding.FAILED
        assert "newer version" in str(ended.error)


async def test_a_transcript_that_cannot_be_read_ends_its_session_only(tmp_path: Path) -> None:
    async with agents(tmp_path / "db") as all_agents:
        made = [await all_agents.create(OWNER, spec("hello")) for _ in range(2)]
        sql = "UPDATE transcript SET token_ids = ? WHERE session_id = ?"
        await store_of(all_agents).commit(Statement(sql, (b"\0", made[0].id)))
    async with agents(tmp_path / "db") as all_agents:
        assert [agent.id for agent in all_agents.running] == [made[1].id]
        assert (await all_agents.get(OWNER, made[0].id)).ending is SessionEnding.FAILED


async def test_an_agent_that_dies_ends_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end(agent: Agent, *how: object) -> None:
        raise RuntimeError("broken")

    async with agents(tmp_path / "db") as all_agents:
        monkeypatch.setattr(Agent, "_end", end)
        agent = await all_agents.create(OWNER, spec("hello", keep_open=False))
        await eventually(lambda: not all_agents.running)
        assert (await all_agents.get(OWNER, agent.id)).ending is SessionEnding.FAILED


async def test_a_clock_that_jumps_ends_and_deletes_nothing(tmp_path: Path) -> None:
    now = [1_000_000.0]
    async with workplace(tmp_path / "db", clock=SteadyClock(lambda: now[0])) as work:
        all_agents = Agents(work)
        await all_agents.start()
        idle = await all_agents.create(OWNER, spec("hello"))
        await until(idle, EventType.OUTPUT)
        ended = await all_agents.create(OWNER, spec("hello", keep_open=False))
        await events(ended)
        for jump in (8 * 24 * 3600.0, -16 * 24 * 3600.0):
            now[0] += jump
            await all_agents.sweep()
            assert {record.id for record in await all_agents.sessions(OWNER)} == {idle.id, ended.id}
            assert idle.phase is Phase.IDLE
        later = await all_agents.create(OWNER, spec("hello"))
        assert (await all_agents.sessions(OWNER))[0].id == later.id
        await all_agents.stop()


async def test_the_sweeper_is_supervised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def sweep(all_agents: Agents) -> None:
        raise MemoryError

    monkeypatch.setattr(Agents, "sweep", sweep)
    async with agents(tmp_path / "db", sweep_seconds=0.001) as all_agents:
        supervisor = all_agents._work.supervisor
        await eventually(supervisor.problems)
        assert supervisor.problems() == ["sweep is down: MemoryError: "]
    assert supervisor.problems() == []
