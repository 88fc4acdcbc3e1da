"""Messages to a session in CML: each is heard once."""

import asyncio
from pathlib import Path

import pytest

from caesura.session.database import Statement
from caesura.session.records import EventType, Phase, SessionEnding
from caesura.session.store import Store
from session.cml_workplace import LONG, asked, look, prompt_end, running
from session.planned import FORMATS, call, engine, read
from session.workplace import OWNER, Gate, agents, events, eventually, texts, tool, until


async def test_a_message_is_an_interrupt(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path / "db", tool(gate.tool)) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{call('a', 'wait', x=1)}{LONG}"))
        await agent.steer("and [END] now?")
        await until(agent, EventType.INJECTED)  # the call keeps the session from ending before
        gate[1].set()
        told = await events(agent)
    results, own = read(agent.transcript[prompt_end(agent.transcript) :])
    assert results == {"user": "and [END] now?", "a": "came 1"}
    assert bytes(token for token in own if token < 256).decode().endswith(LONG)
    assert texts(told) == LONG
    assert [e.data["content"] for e in told if e.type is EventType.MESSAGE] == ["and [END] now?"]


async def test_a_message_wakes_a_session_that_waits(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path / "db", tool(gate.tool)) as all_agents:
        agent = await all_agents.create(
            OWNER, asked(f"{call('a', 'wait', x=1)}|?user| heard |=user|?a| end")
        )
        await until(agent, EventType.TRAPPED)
        await agent.steer("you")
        await until(agent, EventType.INJECTED)
        gate[1].set()
        told = await events(agent)
    assert texts(told) == " heard you end"


async def test_an_idle_session_goes_on_with_the_next_message(tmp_path: Path) -> None:
    async with running(tmp_path / "db", tool(look)) as all_agents:
        agent = await all_agents.create(OWNER, asked("hello", keep_open=True))
        first = await until(agent, EventType.OUTPUT)
        await eventually(lambda: agent.phase is Phase.IDLE)
        await agent.steer(f"{call('a', 'look', x=3)}|?a|=a")
        await until(agent, EventType.PHASE, after=first.number, phase="generating")
        await until(agent, EventType.PHASE, after=first.number + 4, phase="idle")
        told = (await agent.events.next_page(first.number))[0]
        assert texts(told) == "saw 3"
        assert agent.phase is Phase.IDLE


async def test_messages_are_heard_once_whenever_they_come(tmp_path: Path) -> None:
    async with running(tmp_path / "db", tool(look)) as all_agents:
        agent = await all_agents.create(OWNER, asked("some words to write", keep_open=True))
        for number in range(20):
            for _ in range(number * 7):
                await asyncio.sleep(0)
            await agent.steer(f"m{number} and more words")
        heard = 0
        async with asyncio.timeout(20):
            async for event in agent.events.follow():
                heard += event.type is EventType.MESSAGE
                if heard == 20:
                    break
        await eventually(lambda: agent.phase is Phase.IDLE)
        text = bytes(token for token in agent.transcript if token < 256).decode()
    for number in range(20):
        as_interrupt = text.count(f"userm{number} and")
        as_prompt = text.count(f"\x01user\nm{number} and")
        assert as_interrupt + as_prompt == 1, number


async def test_a_message_that_comes_when_the_answer_has_ended_is_heard_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, ended, go_on = Store.commit, asyncio.Event(), asyncio.Event()

    async def held_up(store: Store, *changes: Statement) -> None:
        if any(Phase.IDLE in change.parameters for change in changes):
            ended.set()
            await go_on.wait()
        await commit(store, *changes)

    monkeypatch.setattr(Store, "commit", held_up)
    async with running(tmp_path / "db") as all_agents:
        agent = await all_agents.create(OWNER, asked("hello"))
        await ended.wait()
        await agent.steer("and more")
        await eventually(lambda: agent._engine.session.has_queued)
        go_on.set()
        told = await events(agent)
    assert texts(told) == "helloand more"
    assert bytes(token for token in agent.transcript if token < 256).count(b"and more") == 2
    assert [e.data["content"] for e in told if e.type is EventType.MESSAGE] == ["and more"]


async def test_messages_are_heard_once_whenever_the_session_is_paused(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path / "db", tool(gate.tool)) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{call('a', 'wait', x=1)}{LONG}"))
        for number in range(20):
            await agent.steer(f"m{number}")
            for _ in range(number):
                await asyncio.sleep(0)
            await agent.hold(True)
            await agent.hold(False)
        await until(agent, EventType.MESSAGE, content="m19")
        gate[1].set()
        told = await events(agent)
    heard = [e.data["content"] for e in told if e.type is EventType.MESSAGE]
    assert heard == [f"m{number}" for number in range(20)]
    assert texts(told) == LONG


@pytest.mark.parametrize("known_before", [True, False])
async def test_a_message_that_does_not_fit_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known_before: bool
) -> None:
    small = engine()
    small.max_context_tokens = 600
    if known_before:
        monkeypatch.setattr("session.scripted.ByteDialogue.max_context_tokens", 600)
    async with agents(tmp_path / "db", engine=small, formats=FORMATS) as all_agents:
        agent = await all_agents.create(OWNER, asked("hello", keep_open=True))
        await until(agent, EventType.PHASE, phase="idle")
        before = agent.transcript
        await agent.hold(False)  # behind the end of the answer: the session is prompted in place
        await agent.steer("x" * 2000)
        told = await events(agent)
    assert told[-1].data["ending"] == SessionEnding.LIMIT
    assert "leaves no room" in told[-1].data["error"]
    assert (agent.transcript == before) is known_before
    written = [e.data["output_tokens"] for e in told if e.type is EventType.OUTPUT]
    assert written == [5] if known_before else [5, 0]
