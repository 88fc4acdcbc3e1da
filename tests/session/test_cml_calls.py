"""The calls of a session in CML: refused, waited for, left, cancelled."""

import asyncio
import json
from pathlib import Path

import pytest

from caesura.session.database import Statement
from caesura.session.pending_calls import PendingCalls
from caesura.session.records import (
    CallRecord,
    CallState,
    EventType,
    Phase,
    SessionEnding,
    SessionRecord,
)
from caesura.session.store import Store
from caesura.tools.call import CallEnding, ToolCall
from session.cml_workplace import LONG, asked, look, prompt_end, running
from session.planned import FORMATS, call, read, send_off
from session.workplace import (
    OWNER,
    Gate,
    calls_of,
    events,
    eventually,
    store_of,
    stored,
    texts,
    tool,
    until,
)
from support.databases.places import place_of


async def test_too_many_pending_calls_are_refused(tmp_path: Path) -> None:
    gate = Gate()
    calls = "".join(call(name, "wait", x=x) for x, name in enumerate("abc"))
    async with running(tmp_path / "db", tool(gate.tool)) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{calls}|?c|=c|?a|?b", max_pending_calls=2))
        refused = await until(agent, EventType.RESULT)
        assert json.loads(refused.data["content"])["error"]["type"] == "too_many_pending"
        gate[0].set()
        gate[1].set()
        await events(agent)
    assert gate.ran == [0, 1]


async def test_calls_without_an_id_are_pending_too(tmp_path: Path) -> None:
    gate = Gate()
    plan = send_off("wait", x=0) + send_off("wait", x=1) + call("a", "wait", x=2) + "|?a"
    async with running(tmp_path / "db", tool(gate.tool)) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan, max_pending_calls=1))
        told = await events(agent)
        gate[0].set()
        calls = await calls_of(store_of(all_agents), agent.id)
    assert gate.ran == [0]
    refused = [json.loads(e.data["content"]) for e in told if e.type is EventType.RESULT]
    assert [one["error"]["type"] for one in refused] == ["too_many_pending"] * 2
    assert [one.state for one in calls[1:]] == [CallState.DELIVERED] * 2


async def test_pending_calls_are_waited_for_at_the_end(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path / "db", tool(gate.tool)) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{call('a', 'wait', x=1)} bye"))
        await until(agent, EventType.TRAPPED)
        gate[1].set()
        told = await events(agent)
    results, _ = read(agent.transcript[prompt_end(agent.transcript) :])
    assert results == {"a": "came 1"}
    assert told[-1].data["ending"] == SessionEnding.COMPLETED


async def test_a_bundle_at_the_end_is_waited_for_whatever_is_left(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path / "db", tool(gate.tool, at_end="finish")) as all_agents:
        plan = f"So {call('a', 'wait', x=1)}"
        agent = await all_agents.create(OWNER, asked(plan, "sync_parallel", at_end="leave"))
        await until(agent, EventType.TRAPPED)
        gate[1].set()
        await events(agent)
    results, _ = read(agent.transcript[prompt_end(agent.transcript) :])
    assert results == {"a": "came 1"}


@pytest.mark.parametrize("by_request", [True, False])
@pytest.mark.parametrize("at_end", ["finish", "cancel"])
async def test_calls_are_left_as_their_tool_says(
    tmp_path: Path, at_end: str, by_request: bool
) -> None:
    gate = Gate()
    fields = {"at_end": "leave"} if by_request else {}
    async with running(tmp_path / "db", tool(gate.tool, at_end=at_end)) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{call('a', 'wait', x=1)} bye", **fields))
        told = await events(agent)
        assert told[-1].data["ending"] == SessionEnding.COMPLETED
        assert texts(told) == " bye"
        gate[1].set()

        async def finished() -> bool:
            return all(r.result for r in await calls_of(store_of(all_agents), agent.id))

        await stored(finished)
        (record,) = await calls_of(store_of(all_agents), agent.id)
    wanted = CallEnding.SUCCEEDED if at_end == "finish" else CallEnding.CANCELLED
    assert record.result.ending is wanted
    assert record.state is CallState.DELIVERED


async def test_a_call_that_ends_while_others_are_cancelled_keeps_its_result(tmp_path: Path) -> None:
    stopping, made = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def slow(x: int) -> str:
        """Clean up when cancelled, until the other has its result."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopping.set()
            await until(await made, EventType.RESULT, name="quick")
            raise
        return ""

    async def quick(x: int) -> str:
        """Pay."""
        await stopping.wait()
        return "paid"

    plan = f"{call('a', 'slow', x=1)}{call('b', 'quick', x=2)} done"
    async with running(tmp_path / "db", tool(slow), tool(quick)) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan, at_end="leave"))
        made.set_result(agent)
        told = await events(agent)
        calls = await calls_of(store_of(all_agents), agent.id)
    results = [(e.data["name"], e.data["ending"]) for e in told if e.type is EventType.RESULT]
    assert sorted(results) == [("quick", CallEnding.SUCCEEDED), ("slow", CallEnding.CANCELLED)]
    endings = {one.call.name: one.result.ending for one in calls}
    assert endings == dict(results)


async def test_a_result_that_is_being_written_is_not_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, stop = Store.commit, PendingCalls.stop
    writing, stopping = asyncio.Event(), asyncio.Event()

    async def slowly(store: Store, *changes: Statement) -> None:
        is_result = any("result = ?" in change.sql for change in changes)
        await commit(store, *changes)
        if is_result:
            writing.set()
            await stopping.wait()

    async def stopped(calls: PendingCalls, *arguments, **options) -> None:
        stopping.set()
        await stop(calls, *arguments, **options)

    monkeypatch.setattr(Store, "commit", slowly)
    monkeypatch.setattr(PendingCalls, "stop", stopped)
    async with running(tmp_path / "db", tool(look)) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{call('a', 'look', x=1)}{LONG}|?a"))
        await writing.wait()
        await agent.cancel()
        told = await events(agent)
        (record,) = await calls_of(store_of(all_agents), agent.id)
    results = [e.data["ending"] for e in told if e.type is EventType.RESULT]
    assert results == [CallEnding.SUCCEEDED]
    assert record.result.ending is CallEnding.SUCCEEDED


async def test_a_session_goes_on_without_what_it_has_left(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path / "db", tool(gate.tool, at_end="finish")) as all_agents:
        agent = await all_agents.create(
            OWNER, asked(f"{call('a', 'wait', x=1)} bye", keep_open=True)
        )
        first = await until(agent, EventType.PHASE, phase="idle")
        await agent.steer(f"{call('b', 'wait', x=2)}|?b|=b")
        trapped = await until(agent, EventType.TRAPPED, after=first.number)
        assert len(trapped.data["call_ids"]) == 1
        assert agent._engine.session.pending == {"b"}
        gate[1].set()
        await until(agent, EventType.RESULT, content="came 1")
        gate[2].set()
        await until(agent, EventType.PHASE, after=first.number + 1, phase="idle")
        results, _ = read(agent.transcript)
    assert results == {"b": "came 2"}


async def test_a_fire_and_forget_call_outlives_its_session(tmp_path: Path) -> None:
    gate = Gate()
    plan = f"{send_off('wait', x=1)} bye"
    made = tool(gate.tool, idempotent=True)
    async with running(tmp_path / "db", made) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan))
        told = await events(agent)
        assert told[-1].data["ending"] == SessionEnding.COMPLETED
    gate[1].set()
    async with running(tmp_path / "db", made) as all_agents:  # also after a restart

        async def finished() -> bool:
            return all(r.result for r in await calls_of(store_of(all_agents), agent.id))

        await stored(finished)
    assert gate.ran == [1, 1]


async def test_left_calls_run_once_after_a_restart(tmp_path: Path) -> None:
    ran: list[int] = []
    all_left = asyncio.Event()

    async def pay(x: int) -> str:
        """Pay."""
        ran.append(x)
        await all_left.wait()
        return "paid"

    store = Store(place_of(tmp_path / "db"))
    settled = FORMATS.settled(asked("x"))
    for number in range(30):  # each crashed between the end of its answer and its call's dispatch
        session_id, now = f"s{number}", float(number)
        record = SessionRecord(
            session_id, OWNER, settled, Phase.IDLE, False, 1, None, None, 10, now, now
        )
        made = ToolCall(f"call_{number}", "pay", json.dumps({"x": number}), session_id)
        await store.commit(
            store.add_session(record),
            store.add_tokens(session_id, 0, [1, 2, 264]),
            store.add_call(CallRecord(made, 1, 0)),
        )
    store.close()
    async with running(tmp_path / "db", tool(pay)) as all_agents:
        await eventually(lambda: not all_agents.running)
        all_left.set()

        async def all_finished() -> bool:
            calls = [await store_of(all_agents).call(f"call_{n}") for n in range(30)]
            return all(one is not None and one.result for one in calls)

        await stored(all_finished)
        calls = [await store_of(all_agents).call(f"call_{n}") for n in range(30)]
    assert sorted(ran) == list(range(30))
    assert {one.result.ending for one in calls} == {CallEnding.SUCCEEDED}
