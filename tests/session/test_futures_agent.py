"""Sessions whose calls are answered with futures, in the model's own tool-call format."""

import json
from pathlib import Path

import pytest

from caesura.cml.futures import SYSTEM_PROMPT
from caesura.session.call_format import CallFormats
from caesura.session.records import CallRecord, EventType, Phase, SessionEnding, SessionRecord
from caesura.session.store import Store
from caesura.tools.call import CallEnding, ToolCall
from session.workplace import OWNER, Gate, agents, events, spec, tool, until
from support.databases.places import place_of


def asked(plan: str, **fields):
    return spec(plan, **{"function_calling": "async", "keep_open": False, **fields})


def said_to(agent) -> list[str]:
    """What the tools said to the model, turn by turn."""
    text = bytes(agent.transcript).decode()
    return [part.partition("\x02")[0] for part in text.split("\x01tool\n")[1:]]


AWAIT = '<<await_future {"future": "%s"}>>'


async def test_a_call_is_answered_with_a_future_and_waited_for(tmp_path: Path) -> None:
    gate = Gate()
    plan = '<<wait {"x": 1}>>\nmeanwhile ' + AWAIT % "f1" + "\nend"
    made = tool(gate.tool, expected_seconds=2.0)
    async with agents(tmp_path / "db", made) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan))
        trapped = await until(agent, EventType.TRAPPED)
        assert agent.phase is Phase.CALLING
        gate[1].set()
        told = await events(agent)
    assert [json.loads(text) for text in said_to(agent)] == [
        {"future": "f1", "status": "pending", "expected_seconds": 2.0},
        {"future": "f1", "status": "ready", "value": "came 1"},
    ]
    assert len(trapped.data["call_ids"]) == 1
    names = [e.data["name"] for e in told if e.type is EventType.CALL]
    assert names == ["wait", "await_future"]
    assert told[-1].data["ending"] == SessionEnding.COMPLETED
    assert SYSTEM_PROMPT.encode() in bytes(agent.transcript)


async def test_results_that_arrive_are_shown_at_the_next_turn(tmp_path: Path) -> None:
    gate = Gate()
    plan = '<<wait {"x": 1}>> <<wait {"x": 2}>>\n' + AWAIT % "f2" + "\n" + AWAIT % "f1" + "\nend"
    async with agents(tmp_path / "db", tool(gate.tool)) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan))
        await until(agent, EventType.TRAPPED)
        gate[1].set()
        await until(agent, EventType.RESULT)
        gate[2].set()
        await events(agent)
    answers = [json.loads(text) for text in said_to(agent)]
    assert [(a["future"], a["status"]) for a in answers] == [
        ("f1", "pending"), ("f2", "pending"),
        ("f2", "ready"), ("f1", "ready"),  # the one that was awaited first
        ("f1", "ready"),  # awaited once more: what the model knows already
    ]  # fmt: skip


async def test_the_end_of_the_answer_waits_for_what_is_pending(tmp_path: Path) -> None:
    gate = Gate()
    async with agents(tmp_path / "db", tool(gate.tool)) as all_agents:
        agent = await all_agents.create(OWNER, asked('<<wait {"x": 1}>>\nbye\nafter all'))
        await until(agent, EventType.TRAPPED)
        gate[1].set()
        told = await events(agent)
    outputs = [e.data["text"] for e in told if e.type is EventType.OUTPUT]
    assert len(outputs) == 3
    assert outputs[-1].endswith("after all")
    assert json.loads(said_to(agent)[-1])["value"] == "came 1"


async def test_calls_can_be_left(tmp_path: Path) -> None:
    gate = Gate()
    plan = '<<wait {"x": 1}>>\nbye'
    async with agents(tmp_path / "db", tool(gate.tool)) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan, at_end="leave"))
        told = await events(agent)
    assert told[-1].data["ending"] == SessionEnding.COMPLETED
    (result,) = [e.data for e in told if e.type is EventType.RESULT]
    assert result["ending"] == CallEnding.CANCELLED


async def test_a_call_that_was_left_is_run_after_a_restart(tmp_path: Path) -> None:
    gate = Gate()
    gate[1].set()
    store = Store(place_of(tmp_path / "db"))
    settled = CallFormats().settled(asked("x", keep_open=True))
    record = SessionRecord("s", OWNER, settled, Phase.IDLE, False, 2, None, None, 10, 0, 0)
    await store.commit(
        store.add_session(record),
        store.add_tokens("s", 0, [1, 2, 3]),
        store.add_call(CallRecord(ToolCall("c", "wait", '{"x": 1}', "s"), 1, 0, label="f1")),
    )
    store.close()
    async with agents(tmp_path / "db", tool(gate.tool, at_end="finish")) as all_agents:
        (agent,) = all_agents.running
        result = await until(agent, EventType.RESULT)
        assert agent.phase is Phase.IDLE
    assert result.data["content"] == "came 1"
    assert gate.ran == [1]


async def test_a_message_is_heard_while_a_future_is_awaited(tmp_path: Path) -> None:
    gate = Gate()
    plan = '<<wait {"x": 1}>>\n' + AWAIT % "f1" + "\nend"
    async with agents(tmp_path / "db", tool(gate.tool)) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan))
        await until(agent, EventType.TRAPPED)
        await agent.steer(AWAIT % "f1" + "\nafter all")
        await until(agent, EventType.MESSAGE)
        gate[1].set()
        told = await events(agent)
    assert told[-1].data["ending"] == SessionEnding.COMPLETED
    answers = [json.loads(text) for text in said_to(agent)]
    assert [a["status"] for a in answers] == ["pending", "pending", "ready"]


async def test_a_message_is_heard_while_the_end_of_an_answer_waits(tmp_path: Path) -> None:
    gate = Gate()
    async with agents(tmp_path / "db", tool(gate.tool)) as all_agents:
        agent = await all_agents.create(OWNER, asked('<<wait {"x": 1}>>\nbye'))
        await until(agent, EventType.TRAPPED)
        await agent.steer(AWAIT % "f1" + "\nafter all")
        await until(agent, EventType.MESSAGE)
        gate[1].set()
        told = await events(agent)
    assert told[-1].data["ending"] == SessionEnding.COMPLETED
    assert [json.loads(text)["status"] for text in said_to(agent)] == ["pending", "ready"]


async def test_what_is_no_future_is_told(tmp_path: Path) -> None:
    plan = AWAIT % "f9" + " <<await_future [>>\nend"
    async with agents(tmp_path / "db") as all_agents:
        agent = await all_agents.create(OWNER, asked(plan))
        told = await events(agent)
    errors = [json.loads(text)["error"]["type"] for text in said_to(agent)]
    assert errors == ["unknown_future", "unknown_future"]
    assert told[-1].data["ending"] == SessionEnding.COMPLETED


async def test_a_call_that_fails_is_a_failed_future(tmp_path: Path) -> None:
    plan = '<<nothing {}>> <<add {"x": 1}>>\n' + AWAIT % "f2" + "\nend"

    def add(x: int, y: int) -> int:
        """Add."""
        return x + y

    async with agents(tmp_path / "db", tool(add)) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan))
        await events(agent)
    failed = [json.loads(text) for text in said_to(agent) if '"failed"' in text]
    assert {f["error"]["type"] for f in failed} == {"unknown_tool", "invalid"}


@pytest.mark.parametrize("limit", [1, 2])
async def test_too_many_pending_calls_are_refused(tmp_path: Path, limit: int) -> None:
    gate = Gate()
    calls = " ".join(f'<<wait {{"x": {x}}}>>' for x in range(3))
    async with agents(tmp_path / "db", tool(gate.tool)) as all_agents:
        agent = await all_agents.create(
            OWNER, asked(f"{calls}\n{AWAIT % 'f1'}\nend", max_pending_calls=limit)
        )
        await until(agent, EventType.TRAPPED)
        for x in range(limit):
            gate[x].set()
        await events(agent)
    assert gate.ran == list(range(limit))
    refused = [text for text in said_to(agent) if "too_many_pending" in text]
    assert len(refused) == 3 - limit


async def test_a_session_that_was_restarted_goes_on_with_its_futures(tmp_path: Path) -> None:
    gate = Gate()
    plan = '<<wait {"x": 1}>>\n<<wait {"x": 2}>> ' + AWAIT % "f2" + "\n" + AWAIT % "f1" + "\nend"
    made = tool(gate.tool, idempotent=True)
    async with agents(tmp_path / "db", made) as all_agents:
        agent = await all_agents.create(OWNER, asked(plan))
        await until(agent, EventType.TRAPPED)
    gate[1].set()
    gate[2].set()
    async with agents(tmp_path / "db", made) as all_agents:
        (agent,) = all_agents.running
        told = await events(agent)
    assert told[-1].data["ending"] == SessionEnding.COMPLETED
    ready = [json.loads(text) for text in said_to(agent) if '"ready"' in text]
    assert {(r["future"], r["value"]) for r in ready} == {("f1", "came 1"), ("f2", "came 2")}
