"""A server-run session in CML: calls, results, steering, holding, ending, in all modes."""

import asyncio
import json
import random
import sqlite3
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from caesura.cml import Interrupt, Mode
from caesura.session.call_format import CallFormats
from caesura.session.calling import Course
from caesura.session.database import Statement
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
from session.crash_run import check_stream
from session.planned import FORMATS, PlannedFormat, call, engine, read, send_off
from session.workplace import (
    OWNER,
    agents,
    calls_of,
    events,
    eventually,
    spec,
    store_of,
    stored,
    tool,
    until,
)

LONG = "word " * 300


def look(x: int) -> str:
    """Look."""
    return f"saw {x}"


@asynccontextmanager
async def running(path: Path, *tools):
    async with agents(path, *tools, engine=engine(), formats=FORMATS) as all_agents:
        yield all_agents


def asked(plan: str, mode: str = "async", **fields):
    return spec(plan, function_calling=mode, **{"keep_open": False, **fields})


def texts(told) -> str:
    return "".join(e.data["text"] for e in told if e.type is EventType.OUTPUT)


def prompt_end(transcript) -> int:
    return len(transcript) - list(transcript)[::-1].index(264)


class Gate:
    """A tool whose calls end when they are told to."""

    def __init__(self) -> None:
        self.open: dict[int, asyncio.Event] = {}
        self.ran: list[int] = []

    def __getitem__(self, x: int) -> asyncio.Event:
        return self.open.setdefault(x, asyncio.Event())

    @property
    def tool(self):
        async def wait(x: int) -> str:
            """Wait."""
            self.ran.append(x)
            await self[x].wait()
            return f"came {x}"

        return wait


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
        told = await agent.events.since(0)
        assert texts(told) == " meanwhile "
        issued = next(e for e in told if e.type is EventType.CALL)
        assert trapped.data["call_ids"] == [issued.data["call_id"]]
        gate[1].set()
        told = await events(agent)
    assert texts(told) == " meanwhile  then came 1"


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
        told = await agent.events.since(first.number)
        assert texts(told) == "saw 3"
        assert agent.phase is Phase.IDLE


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
        for _ in range(100):
            await asyncio.sleep(0)
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


async def test_each_mistake_without_an_id_is_told_by_its_own_text(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
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
            raise sqlite3.OperationalError("database or disk is full")
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


async def test_traps_for_nothing_end_a_session(tmp_path: Path) -> None:
    async with running(tmp_path / "db") as all_agents:
        agent = await all_agents.create(OWNER, asked("well |?a|"))
        told = await events(agent)
    assert told[-1].data["ending"] == SessionEnding.FAILED
    assert "waits although no call is pending" in told[-1].data["error"]


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
    stopping = asyncio.Event()

    async def slow(x: int) -> str:
        """Clean up when cancelled."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopping.set()
            await asyncio.sleep(0.1)
            raise
        return ""

    async def quick(x: int) -> str:
        """Pay."""
        await stopping.wait()
        return "paid"

    plan = f"{call('a', 'slow', x=1)}{call('b', 'quick', x=2)} done"
    async with running(tmp_path / "db", tool(slow), tool(quick)) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan, at_end="leave"))
        told = await events(agent)
        calls = await calls_of(store_of(all_agents), agent.id)
    results = [(e.data["name"], e.data["ending"]) for e in told if e.type is EventType.RESULT]
    assert sorted(results) == [("quick", CallEnding.SUCCEEDED), ("slow", CallEnding.CANCELLED)]
    endings = {one.call.name: one.result.ending for one in calls}
    assert endings == dict(results)


async def test_a_result_that_is_being_written_is_not_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, writing = Store.commit, asyncio.Event()

    async def slowly(store: Store, *changes: Statement) -> None:
        is_result = any("result = ?" in change.sql for change in changes)
        await commit(store, *changes)
        if is_result:
            writing.set()
            await asyncio.sleep(0.1)

    monkeypatch.setattr(Store, "commit", slowly)
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
        await until(agent, EventType.TRAPPED, after=first.number)
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

    async def pay(x: int) -> str:
        """Pay."""
        ran.append(x)
        await asyncio.sleep(0.2)
        return "paid"

    store = Store(tmp_path / "db")
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

        async def all_finished() -> bool:
            calls = [await store_of(all_agents).call(f"call_{n}") for n in range(30)]
            return all(one is not None and one.result for one in calls)

        await stored(all_finished)
        calls = [await store_of(all_agents).call(f"call_{n}") for n in range(30)]
    assert sorted(ran) == list(range(30))
    assert {one.result.ending for one in calls} == {CallEnding.SUCCEEDED}


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
        await agent.steer("x" * 2000)
        told = await events(agent)
    assert told[-1].data["ending"] == SessionEnding.LIMIT
    assert "leaves no room" in told[-1].data["error"]
    assert (agent.transcript == before) is known_before


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


async def test_a_store_that_fails_for_a_while_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caesura.session.agent.STORE_RETRY_SECONDS", 0.01)
    commit, chance = Store.commit, random.Random(0)

    async def sometimes(store: Store, *changes: Statement) -> None:
        if chance.random() < 0.3:
            raise sqlite3.OperationalError("database or disk is full")
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
            raise sqlite3.OperationalError("database or disk is full")
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


async def test_a_model_without_markers_is_refused_with_advice(tmp_path: Path) -> None:
    async with agents(tmp_path / "db", tool(look)) as all_agents:
        with pytest.raises(ValueError, match="protocol prompted"):
            await all_agents.create(OWNER, asked("x", protocol="cml"))
        with pytest.raises(ValueError, match="needs function_calling"):
            await all_agents.create(OWNER, spec("x", protocol="cml"))
