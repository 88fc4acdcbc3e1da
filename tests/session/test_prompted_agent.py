"""A server-run session of a model that spells the markers of CML, in all modes."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from caesura.cml import Call, Mode
from caesura.session import Sampling, SessionClosed
from caesura.session.calling import CallingSession, CallIssued, Checkpoint
from caesura.session.records import EventType, Phase, Protocol, SessionEnding
from session.planned import call, send_off
from session.spelled import FORMATS, MERGED, engine, read, text_of, turn_of
from session.workplace import OWNER, agents, events, spec, texts, tool, until


def look(x: str) -> str:
    """Look."""
    return f"saw {x} [END]"


def asked(plan: str, mode: str, **fields: object):
    return spec(
        plan, function_calling=mode, protocol=Protocol.PROMPTED, **{"keep_open": False, **fields}
    )


@pytest.mark.parametrize("mode", ["sync", "sync_parallel", "async"])
@pytest.mark.parametrize("between", ["", "\n", " and "])
async def test_a_session_calls_tools_and_answers_in_each_mode(
    tmp_path: Path, mode: str, between: str
) -> None:
    one, two = call("a", "look", x="1"), call("b", "look", x="2")
    async with agents(tmp_path / "db", tool(look), engine=engine(), formats=FORMATS) as all_agents:
        plan = f"Let me see. {one}{between}{two}{between}|?a|?b| a: |=a| b: |=b|."
        agent = await all_agents.create(OWNER, asked(plan, mode))
        told = await events(agent)
    assert told[-1].data["ending"] == SessionEnding.COMPLETED
    results, _ = read(turn_of(agent.transcript))
    assert results == {"a": "saw 1 [END]", "b": "saw 2 [END]"}
    issued = [e.data["label"] for e in told if e.type is EventType.CALL]
    assert issued == ["a", "b"]
    assert set(agent.transcript) & MERGED.keys(), "tokens go across the edges of markers"
    # Behind a call that is waited for, half a marker may be left where its token had it.
    assert texts(told).replace("[", "").replace("] ", "").startswith("Let me see. ")
    assert texts(told).endswith(" a: saw 1 [END] b: saw 2 [END].")
    assert not [e for e in told if e.type is EventType.INJECTED and e.data.get("errors")]


async def test_messages_are_heard_between_words_and_never_in_a_frame(tmp_path: Path) -> None:
    frames = "".join(f"word {call(f'c{n}', 'look', x=str(n))} " for n in range(20))
    async with agents(tmp_path / "db", tool(look), engine=engine(), formats=FORMATS) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{frames}|?user| end", "async"))
        await until(agent, EventType.CALL)
        await agent.steer("now [TRAP]?")
        told = await events(agent)
    results, own = read(turn_of(agent.transcript))
    assert results.pop("user") == "now [TRAP]?"
    assert results == {f"c{n}": f"saw {n} [END]" for n in range(20)}
    assert sum(e.type is EventType.CALL for e in told) == 20
    assert frames in own
    assert told[-1].data["ending"] == SessionEnding.COMPLETED


async def test_a_restarted_session_goes_on_where_it_was(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "came"

    plan = f"{call('a', 'wait')}{send_off('look', x='1')} then |?a| it |=a|"
    endpoints = (tool(look), tool(wait, idempotent=True))
    async with agents(tmp_path / "db", *endpoints, engine=engine(), formats=FORMATS) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan, "async"))
        await until(agent, EventType.TRAPPED)
        assert agent.phase is Phase.CALLING
    gate.set()
    async with agents(tmp_path / "db", *endpoints, engine=engine(), formats=FORMATS) as all_agents:
        (agent,) = all_agents.running
        told = await events(agent)
    assert texts(told) == " then  it came"
    assert told[-1].data["ending"] == SessionEnding.COMPLETED


async def test_a_session_that_is_paused_at_any_moment_tells_its_text_once(tmp_path: Path) -> None:
    steps = [f"so {call(f'c{n}', 'look', x='1')} [and] {send_off('look', x='2')}" for n in range(9)]
    plan = " ".join(steps)
    async with agents(tmp_path / "db", tool(look), engine=engine(), formats=FORMATS) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan, "async"))
        uninterrupted = texts(await events(agent))
        assert uninterrupted.count("so  [and]") == 9
        for turns in range(20):
            agent = await all_agents.create(OWNER, asked(plan, "async"))
            while not agent._stop and agent.phase is not Phase.ENDED:
                for _ in range(turns):
                    await asyncio.sleep(0)
                with contextlib.suppress(SessionClosed):
                    await agent.hold(True)
                    await agent.hold(False)
            assert texts(await events(agent)) == uninterrupted


async def test_a_call_begun_in_the_token_that_ended_one_survives_a_crash() -> None:
    """What is written down at a call ends with half the marker of the next one."""
    plan = f"{call('a', 'look', x='1')}{call('b', 'look', x='2')} done"
    made = FORMATS.prompted
    assert made is not None
    prompt = made.prompt([{"role": "user", "content": plan}], (), Mode.ASYNC)

    async def issued(start: Checkpoint, calls: int) -> CallingSession:
        session = CallingSession(engine(), made, start, Sampling(500), mode=Mode.ASYNC)
        async for event in session.events():
            if isinstance(event, CallIssued):
                calls -= 1
            if not calls:
                break
        await session.close()
        return session

    first = await issued(Checkpoint(prompt), 1)
    kept = first.transcript[: first.course.position]
    assert text_of(kept[-1]) == "]["
    second = await issued(Checkpoint(kept, first.course, [Call("a", "look", {"x": "1"})]), 1)
    assert second.pending == {"a", "b"}
