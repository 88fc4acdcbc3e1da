"""Sessions in CML that go on from what is stored."""

import asyncio
import random
import threading
from pathlib import Path

import pytest

from caesura.cml import Interrupt, Mode
from caesura.session.call_format import CallFormats
from caesura.session.calling import Course
from caesura.session.database import Statement
from caesura.session.errors import StoreUnavailable
from caesura.session.records import EventType, Phase, SessionEnding, SessionRecord
from caesura.session.store import Store
from session.cml_workplace import LONG, asked, look, prompt_end, running
from session.crash_run import check_stream
from session.planned import FORMATS, PlannedFormat, call, engine, read, send_off
from session.workplace import OWNER, Gate, agents, events, store_of, texts, tool, until
from support.databases.places import place_of


async def test_a_restarted_session_goes_on_where_it_was(tmp_path: Path) -> None:
    gate = Gate()
    plan = f"{call('a', 'wait', x=1)} and {call('b', 'wait', x=2)}|?b|=b|?a|=a"
    made = tool(gate.tool, idempotent=True)
    async with running(tmp_path / "db", made) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan))
        await until(agent, EventType.TRAPPED)
        before = agent.transcript
    gate[2].set()
    async with running(tmp_path / "db", made) as all_agents:
        (agent,) = all_agents.running
        assert agent.transcript == before
        await until(agent, EventType.INJECTED)
        gate[1].set()
        told = await events(agent)
    assert texts(told).endswith("came 2came 1")
    start = prompt_end(agent.transcript)
    results, _ = read(agent.transcript[start:])
    assert results == {"a": "came 1", "b": "came 2"}
    assert gate.ran == [1, 2, 1, 2]


async def test_a_result_that_is_stored_ends_a_pause_without_another(tmp_path: Path) -> None:
    gate = Gate()
    made = tool(gate.tool, idempotent=True)
    async with running(tmp_path / "db", made) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{call('a', 'wait', x=1)}|?a|=a"))
        await until(agent, EventType.TRAPPED)
        await agent.hold(True)
        gate[1].set()
        await until(agent, EventType.RESULT)
    async with running(tmp_path / "db", made) as all_agents:
        (agent,) = all_agents.running
        await agent.hold(False)
        told = await events(agent)
    assert texts(told) == "came 1"
    assert sum(e.type is EventType.TRAPPED for e in told) == 1
    assert gate.ran == [1]


async def test_each_mistake_without_an_id_is_told_by_its_own_text(tmp_path: Path) -> None:
    store = Store(place_of(tmp_path / "db"))
    settled = FORMATS.settled(asked("hello"))
    record = SessionRecord("s", OWNER, settled, Phase.GENERATING, False, 1, None, None, 10, 0, 0)
    errors = Interrupt("error", "first"), Interrupt("error", "second")
    prompt = PlannedFormat().prompt(settled.messages, (), Mode.ASYNC)
    await store.commit(
        store.add_session(record),
        store.add_tokens("s", 0, prompt),
        store.set_course("s", Course(len(prompt), errors=errors)),
    )
    store.close()
    async with running(tmp_path / "db") as all_agents:
        (agent,) = all_agents.running
        injected = await until(agent, EventType.INJECTED)
    assert [one["error"] for one in injected.data["interrupts"]] == ["first", "second"]


async def test_a_session_that_is_cancelled_while_it_is_opened_ends(tmp_path: Path) -> None:
    opening, may_open = threading.Event(), threading.Event()

    class Slow(PlannedFormat):
        def grammar(self, *arguments) -> str | None:
            opening.set()
            may_open.wait()
            return super().grammar(*arguments)

    gate = Gate()
    made = tool(gate.tool, idempotent=True)
    async with running(tmp_path / "db", made) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{call('a', 'wait', x=1)}|?a"))
        await until(agent, EventType.TRAPPED)
    formats = CallFormats(cml=Slow(), constrains=True)
    async with agents(tmp_path / "db", made, engine=engine(), formats=formats) as all_agents:
        (agent,) = all_agents.running
        await asyncio.to_thread(opening.wait)
        await agent.cancel()
        may_open.set()
        assert (await events(agent))[-1].data["ending"] == SessionEnding.CANCELLED


async def test_a_store_that_fails_for_a_while_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caesura.session.agent.STORE_RETRY_SECONDS", 0.01)
    commit, chance = Store.commit, random.Random(0)

    async def sometimes(store: Store, *changes: Statement) -> None:
        if chance.random() < 0.3:
            raise StoreUnavailable("database or disk is full")
        await commit(store, *changes)

    calls = [call(f"a{x}", "look", x=x) for x in range(5)]
    plan = "|".join([f"words and {one}" for one in calls] + [f"?a{x}| =|=a{x}" for x in range(5)])
    async with running(tmp_path / "db", tool(look, idempotent=True)) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan))
        monkeypatch.setattr(Store, "commit", sometimes)
        told = await events(agent)
        monkeypatch.setattr(Store, "commit", commit)
        stored = await store_of(all_agents).transcript(agent.id)
    assert told[-1].data["ending"] == SessionEnding.COMPLETED
    check_stream(stored, [])


async def test_a_result_that_cannot_be_written_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caesura.session.agent.STORE_RETRY_SECONDS", 0.01)
    commit, failed = Store.commit, 0

    async def once_full(store: Store, *changes: Statement) -> None:
        nonlocal failed
        if not failed and any("result = ?" in change.sql for change in changes):
            failed += 1
            raise StoreUnavailable("database or disk is full")
        await commit(store, *changes)

    monkeypatch.setattr(Store, "commit", once_full)
    gate = Gate()
    async with running(tmp_path / "db", tool(gate.tool, idempotent=True)) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{call('a', 'wait', x=1)}{LONG}|?a|=a"))
        await until(agent, EventType.TEXT)
        gate[1].set()
        told = await events(agent)
    assert failed
    assert told[-1].data["ending"] == SessionEnding.COMPLETED
    results, own = read(agent.transcript[prompt_end(agent.transcript) :])
    assert results == {"a": "came 1"}
    assert bytes(token for token in own if token < 256).decode().endswith(f"{LONG}came 1")


async def test_a_result_that_cannot_be_written_at_an_answers_end_is_got_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caesura.session.agent.STORE_RETRY_SECONDS", 0.01)
    commit, answered = Store.commit, asyncio.Event()
    failed = 0

    async def once_full(store: Store, *changes: Statement) -> None:
        nonlocal failed
        if not failed and any("result = ?" in change.sql for change in changes):
            failed += 1
            answered.set()
            raise StoreUnavailable("database or disk is full")
        if not answered.is_set() and any(Phase.IDLE in change.parameters for change in changes):
            gate[1].set()
            await answered.wait()
            for _ in range(10):
                await asyncio.sleep(0)
        await commit(store, *changes)

    gate = Gate()
    monkeypatch.setattr(Store, "commit", once_full)
    made = tool(gate.tool, idempotent=True)
    async with running(tmp_path / "db", made) as all_agents:
        agent = await all_agents.create(
            OWNER, asked(f"{send_off('wait', x=1)} bye", keep_open=True)
        )
        result = await until(agent, EventType.RESULT)
    assert failed
    assert result.data["content"] == "came 1"
    assert gate.ran == [1, 1]
