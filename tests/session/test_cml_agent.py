"""A server-run session in CML: it generates, calls, is held, stopped and limited, in all modes."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from caesura.endpoints import HUMAN
from caesura.session import SessionClosed
from caesura.session.call_format import CallFormats
from caesura.session.records import CallState, EventType, Phase, SessionEnding
from caesura.tools import Answer
from session.cml_workplace import LONG, asked, look, prompt_end, running
from session.planned import FORMATS, PlannedFormat, call, engine, read, send_off
from session.workplace import (
    OWNER,
    Gate,
    agents,
    calls_of,
    events,
    eventually,
    spec,
    store_of,
    texts,
    tool,
    until,
)


async def test_a_grammar_is_made_beside_the_event_loop(tmp_path: Path) -> None:
    made_in: list[threading.Thread] = []

    class Watched(PlannedFormat):
        def grammar(self, *arguments) -> str | None:
            made_in.append(threading.current_thread())
            return super().grammar(*arguments)

    formats = CallFormats(cml=Watched(), constrains=True)
    async with agents(tmp_path / "db", tool(look), engine=engine(), formats=formats) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{call('a', 'look', x=1)}|?a|Good."))
        assert (await events(agent))[-1].data["ending"] == SessionEnding.COMPLETED
    assert made_in
    assert threading.current_thread() not in made_in


@pytest.mark.parametrize("mode", ["sync", "sync_parallel", "async"])
async def test_a_session_calls_tools_and_answers_in_each_mode(tmp_path: Path, mode: str) -> None:
    one, two = call("a", "look", x=1), call("b", "look", x=2)
    async with running(tmp_path / "db", tool(look)) as all_agents:
        plan = f"Let me see. {one}{two}|?a|?b| a: |=a| b: |=b|."
        agent = await all_agents.create(OWNER, asked(plan, mode))
        told = await events(agent)
    assert told[-1].data["ending"] == SessionEnding.COMPLETED
    assert texts(told) == "Let me see.  a: saw 1 b: saw 2."
    outputs = [e.data for e in told if e.type is EventType.OUTPUT]
    assert [output["continues"] for output in outputs] == [True] * (len(outputs) - 1) + [False]
    assert len({output["turn"] for output in outputs}) == len(outputs)
    results, _ = read(agent.transcript[prompt_end(agent.transcript) :])
    assert results == {"a": "saw 1", "b": "saw 2"}
    issued = [e.data["label"] for e in told if e.type is EventType.CALL]
    assert issued == ["a", "b"]
    injected = [
        one["id"] for e in told if e.type is EventType.INJECTED for one in e.data["interrupts"]
    ]
    assert sorted(injected) == ["a", "b"]
    written = sum(output["output_tokens"] for output in outputs)
    assert written < len(agent.transcript)


async def test_an_asynchronous_session_goes_on_while_its_calls_run(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path / "db", tool(gate.tool)) as all_agents:
        plan = f"{call('a', 'wait', x=1)} meanwhile |?a| then |=a|"
        agent = await all_agents.create(OWNER, asked(plan))
        trapped = await until(agent, EventType.TRAPPED)
        assert agent.phase is Phase.CALLING
        told = (await agent.events.next_page(0))[0]
        assert texts(told) == " meanwhile "
        issued = next(e for e in told if e.type is EventType.CALL)
        assert trapped.data["call_ids"] == [issued.data["call_id"]]
        gate[1].set()
        told = await events(agent)
    assert texts(told) == " meanwhile  then came 1"


async def test_a_held_session_stops_and_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path / "db", tool(look)) as all_agents:
        plan = f"{call('a', 'look', x=1)}|?a|{LONG}|=a"
        agent = await all_agents.create(OWNER, asked(plan))
        await until(agent, EventType.TEXT)
        await agent.hold(True)
        await eventually(lambda: agent.id not in all_agents._work.engine.open_ids)
        assert agent.phase is Phase.GENERATING
        before = agent.transcript
        await agent.hold(False)
        told = await events(agent)
    assert texts(told) == f"{LONG}saw 1"
    assert agent.transcript[: len(before)] == before
    assert not any(e.type is EventType.RESTARTED for e in told)


async def test_results_wait_while_the_session_is_held(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path / "db", tool(gate.tool)) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{call('a', 'wait', x=1)}|?a|=a"))
        await until(agent, EventType.TRAPPED)
        await agent.hold(True)
        gate[1].set()
        await until(agent, EventType.RESULT)
        await agent.hold(True)  # behind whatever the result has begun
        assert agent.phase is Phase.CALLING
        await agent.hold(False)
        assert texts(await events(agent)) == "came 1"


async def test_cancelling_stops_generation_and_calls(tmp_path: Path) -> None:
    gate = Gate()
    async with running(tmp_path / "db", tool(gate.tool)) as all_agents:
        calling = await all_agents.create(OWNER, asked(f"{call('a', 'wait', x=1)}|?a|=a"))
        await until(calling, EventType.TRAPPED)
        generating = await all_agents.create(OWNER, asked(LONG))
        await until(generating, EventType.TEXT)
        await calling.cancel()
        await generating.cancel()
        told = await events(calling)
        assert [e.data["ending"] for e in told[-2:]] == ["cancelled", "cancelled"]
        assert (await events(generating))[-1].data["ending"] == SessionEnding.CANCELLED


@pytest.mark.parametrize("plan", [LONG, f"{LONG}{call('a', 'look', x=10**400)}"])
async def test_what_a_cancelled_session_has_written_is_kept(tmp_path: Path, plan: str) -> None:
    async with running(tmp_path / "db", tool(look)) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan))
        await until(agent, EventType.TEXT)
        if plan != LONG:  # to be cancelled in the middle of its call
            await eventually(lambda: agent._engine.session.in_critical_section)
            await eventually(lambda: agent._engine.session.transcript[-1] == ord("0"))
        await agent.cancel()
        told = await events(agent)
    assert told[-1].data["ending"] == SessionEnding.CANCELLED
    (output,) = [e.data for e in told if e.type is EventType.OUTPUT]
    assert output["stop"] == "interrupted"
    written = bytes(agent.transcript[prompt_end(agent.transcript) :]).decode()
    assert output["text"] == written
    assert LONG.startswith(written)
    assert written
    if plan != LONG:
        assert written == LONG


async def test_mistakes_are_told_to_the_model(tmp_path: Path) -> None:
    wrong = call("a", "look", x="one")
    unknown = call("b", "lok", x=1)
    async with running(tmp_path / "db", tool(look)) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{wrong}{unknown} so |?a|?b|=a|=b"))
        told = await events(agent)
    errors = [
        one["error"] for e in told if e.type is EventType.INJECTED for one in e.data["interrupts"]
    ]
    kinds = [json.loads(error)["error"]["type"] for error in errors]
    assert kinds == ["invalid_arguments", "unknown_tool"]
    assert not any(e.type is EventType.CALL for e in told)
    assert told[-1].data["ending"] == SessionEnding.COMPLETED


async def test_traps_for_nothing_end_a_session(tmp_path: Path) -> None:
    async with running(tmp_path / "db") as all_agents:
        agent = await all_agents.create(OWNER, asked("well |?a|"))
        told = await events(agent)
    assert told[-1].data["ending"] == SessionEnding.FAILED
    assert "waits although no call is pending" in told[-1].data["error"]


async def test_a_session_ends_at_its_limit_of_turns(tmp_path: Path) -> None:
    steps = "|".join(f"{call(f'a{i}', 'look', x=1)}|?a{i}" for i in range(10))
    async with running(tmp_path / "db", tool(look)) as all_agents:
        agent = await all_agents.create(OWNER, asked(steps, max_turns=3))
        told = await events(agent)
    assert told[-1].data["ending"] == SessionEnding.LIMIT
    assert "max_turns" in told[-1].data["error"]
    assert sum(e.type is EventType.TRAPPED for e in told) == 3


async def test_an_answer_of_full_length_says_so(tmp_path: Path) -> None:
    async with running(tmp_path / "db") as all_agents:
        made = asked(LONG).model_copy(update={"max_tokens": 20})
        agent = await all_agents.create(OWNER, made)
        told = await events(agent)
    (output,) = [e.data for e in told if e.type is EventType.OUTPUT]
    assert (output["stop"], output["output_tokens"]) == ("length", 20)


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_result_that_does_not_fit_ends_the_session(tmp_path: Path, mode: str) -> None:
    def recite(x: int) -> str:
        """Recite."""
        return "y" * 2000

    small = engine()
    small.max_context_tokens = 600
    async with agents(tmp_path / "db", tool(recite), engine=small, formats=FORMATS) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{call('a', 'recite', x=1)}|?a|=a", mode))
        told = await events(agent)
        (record,) = await calls_of(store_of(all_agents), agent.id)
    assert told[-1].data["ending"] == SessionEnding.LIMIT
    assert "leaves no room" in told[-1].data["error"]
    assert record.state is CallState.DONE
    turns = [e.data["turn"] for e in told if e.type is EventType.OUTPUT]
    assert len(turns) == len(set(turns)) > 1, "each stretch is told once"


@pytest.mark.parametrize("mode", ["sync", "sync_parallel", "async"])
async def test_results_are_cut_to_the_room_that_is_left_and_the_model_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    def recite(x: int) -> str:
        """Recite."""
        return f"{x}" * 9000

    small, longest = engine(), 4000
    small.max_context_tokens = longest
    monkeypatch.setattr("session.scripted.ByteDialogue.max_context_tokens", longest)
    both = call("a", "recite", x=1) + call("b", "recite", x=2)
    async with agents(tmp_path / "db", tool(recite), engine=small, formats=FORMATS) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{both}|?a|?b| that is it", mode))
        told = await events(agent)
        records = await calls_of(store_of(all_agents), agent.id)
    assert told[-1].data["ending"] == SessionEnding.COMPLETED, told[-1].data
    assert texts(told).endswith(" that is it")
    results, _ = read(agent.transcript[prompt_end(agent.transcript) :])
    for name, digit in (("a", "1"), ("b", "2")):
        assert "The result was cut: it has 9000 characters" in results[name]
        assert results[name].startswith(digit * 100)
    assert 2000 < len(agent.transcript) < longest - 500, "what fits is there"
    assert [len(record.result.content) for record in records] == [9000] * 2, "it is kept whole"


async def test_messages_of_the_user_are_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recite() -> str:
        """Recite."""
        return "y" * 5000

    monkeypatch.setattr("session.scripted.ByteDialogue.max_context_tokens", 4000)
    said = "say " * 300
    async with running(tmp_path / "db", tool(recite)) as all_agents:
        agent = await all_agents.create(OWNER, asked(f"{call('a', 'recite')}|?a| ok"))
        await agent.hold(True)
        await agent.steer(said)
        await agent.hold(False)
        await events(agent)
    assert said.strip() in bytes(t for t in agent.transcript if t < 256).decode()


async def test_a_session_that_is_held_at_any_moment_tells_its_text_once(tmp_path: Path) -> None:
    """Results come where the model waits for them: one that is injected within a quoted marker
    would divide it."""
    steps = [
        f"so [~END] é {call(n, 'look', x=1)}|?{n}| and {send_off('look', x=2)}" for n in ("a", "b")
    ]
    plan = " ".join(steps)

    async def token_by_token(transcript: Sequence[int]) -> None:
        await asyncio.sleep(0)

    one_by_one = engine()
    one_by_one.pace = token_by_token
    async with agents(
        tmp_path / "db", tool(look), engine=one_by_one, formats=FORMATS
    ) as all_agents:
        uninterrupted = texts(await events(await all_agents.create(OWNER, asked(plan))))
        assert uninterrupted.count("so [END] é  and ") == 2
        for turns in range(1, 20):
            agent = await all_agents.create(OWNER, asked(plan))
            for _ in range(500):  # no more, since a session that is held all the time gets nowhere
                if agent.phase is Phase.ENDED:
                    break
                for _ in range(turns):
                    await asyncio.sleep(0)
                with contextlib.suppress(SessionClosed):
                    await agent.hold(True)
                    await agent.hold(False)
            assert texts(await events(agent)) == uninterrupted


async def test_a_model_without_markers_is_refused_with_advice(tmp_path: Path) -> None:
    async with agents(tmp_path / "db", tool(look)) as all_agents:
        with pytest.raises(ValueError, match=r"protocol native, or futures.*caesura train"):
            await all_agents.create(OWNER, asked("x", protocol="cml"))
        with pytest.raises(ValueError, match="needs function_calling"):
            await all_agents.create(OWNER, spec("x", protocol="cml"))


async def test_a_pause_waits_for_the_human_who_is_asked_and_then_for_the_tool(
    tmp_path: Path,
) -> None:
    gate = Gate()
    plan = f"{call('a', 'wait', x=1)} so |?a|=a"
    async with running(tmp_path / "db", tool(gate.tool, approve=True)) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan))
        question = await until(agent, EventType.ASKED)
        endpoints = all_agents._work.engine.streams[agent.id].endpoints
        await eventually(lambda: endpoints[-1] == HUMAN)
        await all_agents.answer(OWNER, question.data["approval_id"], Answer(True))
        await eventually(lambda: endpoints[-1] == "wait")
        gate[1].set()
        assert texts(await events(agent)) == " so came 1"
