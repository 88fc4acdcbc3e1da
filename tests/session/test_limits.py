"""Limits per owner: kept by the transaction that writes, and nobody else feels them."""

import asyncio
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from caesura.session.agents import Agents
from caesura.session.errors import QuotaExceeded, TooManySessions
from caesura.session.limits import Limits
from caesura.session.records import EventType, SessionEnding, SessionSpec
from caesura.tools.call import Answer, CallEnding
from session.planned import FORMATS, call
from session.planned import engine as planned_engine
from session.scripted import END, model
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
from support.engines.fakes import FakeEngine

OTHER = "somebody else"


async def test_limits_of_open_sessions(tmp_path: Path) -> None:
    async with agents(tmp_path / "db", open_sessions_per_owner=2) as all_agents:
        first = await all_agents.create(OWNER, spec("one"))
        await all_agents.create(OWNER, spec("two"))
        with pytest.raises(TooManySessions, match="2 sessions are open"):
            await all_agents.create(OWNER, spec("three"))
        await all_agents.create("somebody else", spec("three"))
        await first.cancel()
        await events(first)
        await all_agents.create(OWNER, spec("three"))


async def made_at_once(all_agents: Agents, number: int) -> Counter[str]:
    """What comes of so many sessions that are made at the same time."""
    outcomes = await asyncio.gather(
        *(all_agents.create(OWNER, spec("hello")) for _ in range(number)), return_exceptions=True
    )
    return Counter(type(outcome).__name__ for outcome in outcomes)


async def test_many_at_once_do_not_exceed_the_open_ones(tmp_path: Path) -> None:
    async with agents(tmp_path / "db", open_sessions_per_owner=5) as all_agents:
        made = await made_at_once(all_agents, 60)
        assert made == {"TurnAgent": 5, "TooManySessions": 55}
        assert len(await all_agents.sessions(OWNER)) == 5


async def test_many_at_once_do_not_exceed_those_of_a_minute(tmp_path: Path) -> None:
    now = [1_000_000.0]
    limits = Limits(sessions_per_minute=3)
    async with workplace(tmp_path / "db", clock=lambda: now[0], limits=limits) as work:
        all_agents = Agents(work)
        await all_agents.start()
        assert await made_at_once(all_agents, 9) == {"TurnAgent": 3, "QuotaExceeded": 6}
        await all_agents.create(OTHER, spec("hello"))
        now[0] += 59
        with pytest.raises(QuotaExceeded, match="sessions_per_minute") as refused:
            await all_agents.create(OWNER, spec("hello"))
        assert refused.value.retry_seconds == 60
        now[0] += 2
        await all_agents.create(OWNER, spec("hello"))
        now[0] -= 7200  # a clock that is set back locks nobody out
        await all_agents.create(OWNER, spec("hello"))
        await all_agents.stop()


async def counted(all_agents: Agents, owner: str) -> int:
    """What an owner's sessions take, counted anew."""
    sizes = {
        "sessions": "500 + length(CAST(spec AS BLOB))",
        "events": "100 + length(CAST(data AS BLOB))",
        "transcript": "60 + length(token_ids)",
        "calls": "150 + length(CAST(arguments || COALESCE(result, '') AS BLOB))",
        "inbox": "60 + length(CAST(message AS BLOB))",
        "approvals": "200 + length(CAST(question || COALESCE(answer, '') AS BLOB))",
    }
    if store_of(all_agents).is_shared:
        sizes = {
            table: re.sub(r"length\(CAST\((.*) AS BLOB\)\)", r"octet_length(\1)", sql)
            for table, sql in sizes.items()
        }
    total = 0
    for table, size in sizes.items():
        of = "id" if table == "sessions" else "session_id"
        ((found,),) = await store_of(all_agents)._database.read(
            f"SELECT COALESCE(SUM({size}), 0) FROM {table} WHERE {of} IN"
            " (SELECT id FROM sessions WHERE owner = ?)",
            (owner,),
        )
        total += int(found)
    return total


async def test_every_write_is_counted(tmp_path: Path) -> None:
    def risky(text: str) -> str:
        """Do it."""
        return text * 10

    async with agents(tmp_path / "db", tool(risky, approve=True)) as all_agents:
        store = store_of(all_agents)
        plan = f"<<risky {json.dumps({'text': 'ü' * 50}, ensure_ascii=False)}>>\nend"
        agent = await all_agents.create(OWNER, spec(plan))
        asked = await until(agent, EventType.ASKED)
        assert await store.owner_bytes(OWNER) == await counted(all_agents, OWNER)
        await agent.steer("and ü")
        assert await store.owner_bytes(OWNER) == await counted(all_agents, OWNER)
        await all_agents.answer(OWNER, asked.data["approval_id"], Answer(True, text="ü"))
        await until(agent, EventType.OUTPUT, turn=2)
        await agent.cancel()
        await events(agent)
        await eventually(lambda: not all_agents.running)
        assert await store.owner_bytes(OWNER) == await counted(all_agents, OWNER) > 3000
        await store.delete_ended(float("inf"))
        assert await store.owner_bytes(OWNER) == 0 == await counted(all_agents, OWNER)


async def test_an_owner_loses_its_own_oldest_sessions_and_no_other(tmp_path: Path) -> None:
    async with agents(tmp_path / "db", owner_bytes=60_000) as all_agents:
        others = await all_agents.create(OTHER, spec("x" * 2000, keep_open=False))
        await events(others)
        made = []
        for _ in range(20):
            agent = await all_agents.create(OWNER, spec("x" * 2000, keep_open=False))
            await events(agent)
            made.append(agent.id)
        kept = [record.id for record in await all_agents.sessions(OWNER)]
        assert kept == made[::-1][: len(kept)]
        assert 2 < len(kept) < 20
        await all_agents.sweep()
        assert await store_of(all_agents).owner_bytes(OWNER) <= 60_000
        assert [record.id for record in await all_agents.sessions(OTHER)] == [others.id]


async def test_an_owner_that_is_full_is_refused_and_stops_nobody(tmp_path: Path) -> None:
    async with agents(tmp_path / "db", owner_bytes=100_000) as all_agents:
        agent = await all_agents.create(OWNER, spec("hello"))
        await until(agent, EventType.OUTPUT)
        await agent.hold(True)
        outcomes = await asyncio.gather(
            *(agent.steer("z" * 30_000) for _ in range(16)), return_exceptions=True
        )
        assert Counter(map(type, outcomes)) == {type(None): 3, QuotaExceeded: 13}
        assert await store_of(all_agents).owner_bytes(OWNER) <= 100_000
        with pytest.raises(QuotaExceeded, match="owner_size"):
            await all_agents.create(OWNER, spec("y" * 3000))
        await events(await all_agents.create(OTHER, spec("y" * 3000, keep_open=False)))


async def test_an_answer_has_to_fit_too(tmp_path: Path) -> None:
    def risky() -> str:
        """Do it."""
        return "did it"

    async with agents(tmp_path / "db", tool(risky, approve=True), owner_bytes=20_000) as all_agents:
        agent = await all_agents.create(OWNER, spec("<<risky {}>>\nend"))
        key = (await until(agent, EventType.ASKED)).data["approval_id"]
        with pytest.raises(QuotaExceeded):
            await all_agents.answer(OWNER, key, Answer(False, reason="z" * 20_000))
        assert await all_agents.answer(OWNER, key, Answer(True))
        await until(agent, EventType.OUTPUT, turn=2)


async def test_a_session_that_writes_on_ends_at_the_limit(tmp_path: Path) -> None:
    def much() -> str:
        """Give much."""
        return "m" * 10_000

    plan = "\n".join(["<<much {}>>"] * 50)
    async with agents(tmp_path / "db", tool(much), owner_bytes=150_000) as all_agents:
        agent = await all_agents.create(OWNER, spec(plan, keep_open=False))
        told = await events(agent)
        assert told[-1].data["ending"] == SessionEnding.LIMIT
        assert "owner_size" in str(told[-1].data["error"])
        assert 1 < sum(event.type is EventType.RESULT for event in told) < 50


async def test_a_cml_session_that_writes_on_ends_at_the_limit(tmp_path: Path) -> None:
    def much(x: int) -> str:
        """Give much."""
        return "m" * 10_000

    rounds = "|".join(f"{call(f'a{x}', 'much', x=x)}|?a{x}| had " for x in range(50))
    asked = spec(rounds, keep_open=False, function_calling="async")
    engine, limit = planned_engine(), 150_000
    async with agents(
        tmp_path / "db", tool(much), engine=engine, formats=FORMATS, owner_bytes=limit
    ) as all_agents:
        agent = await all_agents.create(OWNER, asked)
        told = await events(agent)
        assert told[-1].data["ending"] == SessionEnding.LIMIT
        assert "owner_size" in str(told[-1].data["error"])
        assert 1 < sum(event.type is EventType.RESULT for event in told) < 50


async def test_messages_that_wait_are_few(tmp_path: Path) -> None:
    async with agents(tmp_path / "db", waiting_messages=3) as all_agents:
        agent = await all_agents.create(OWNER, spec("hello"))
        await until(agent, EventType.OUTPUT)
        await agent.hold(True)
        outcomes = await asyncio.gather(
            *(agent.steer(str(n)) for n in range(9)), return_exceptions=True
        )
        assert Counter(map(type, outcomes)) == {type(None): 3, QuotaExceeded: 6}
        await agent.hold(False)
        await until(agent, EventType.MESSAGE)
        await agent.steer("one more")


@pytest.mark.parametrize("fields", [{}, {"function_calling": "async", "protocol": "futures"}])
async def test_calls_of_a_turn_are_few(tmp_path: Path, fields: dict[str, str]) -> None:
    now, most = 0, 0

    async def slow(i: int) -> str:
        """Take a while."""
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return str(i)

    plan = " ".join(f'<<slow {{"i": {i}}}>>' for i in range(40))
    made = spec(plan, keep_open=False, **fields)
    async with agents(tmp_path / "db", tool(slow), calls_per_turn=4) as all_agents:
        agent = await all_agents.create(OWNER, made)
        await events(agent)
        calls = await calls_of(store_of(all_agents), agent.id)
    endings = Counter(call.result.ending for call in calls if call.result is not None)
    assert endings == {CallEnding.SUCCEEDED: 4, CallEnding.FAILED: 36}
    assert most <= 4


def test_what_is_asked_for_has_ceilings() -> None:
    limits = Limits(max_tokens=100, max_turns=10, calls_per_turn=5, metadata_bytes=9)
    message = {"messages": [{"role": "user", "content": "hello"}]}
    lowered = limits.fitted(SessionSpec.model_validate(message))
    assert (lowered.max_tokens, lowered.max_turns, lowered.max_pending_calls) == (None, 10, 5)
    asked = {
        "max_tokens": 100,
        "max_turns": 10,
        "max_pending_calls": 5,
        "metadata": {"k": "12345678"},
    }
    assert limits.fitted(SessionSpec.model_validate(message | asked)).max_tokens == 100
    beyond = {
        "max_tokens": 101,
        "max_turns": 11,
        "max_pending_calls": 6,
        "metadata": {"k": "ü" * 5},
    }
    for field, value in beyond.items():
        with pytest.raises(ValueError, match=rf"^{field}: .*sessions\."):
            limits.fitted(SessionSpec.model_validate(message | {field: value}))


@pytest.mark.parametrize("separates", [True, False])
@pytest.mark.parametrize("mode", [None, "async"])
async def test_owners_share_contexts_only_if_they_may(
    tmp_path: Path, separates: bool, mode: str | None
) -> None:
    made = planned_engine() if mode else FakeEngine(END, model)
    salts = []
    opened = made.open

    async def noted(session_id, token_ids, sampling, endpoint=None):
        salts.append(sampling.salt)
        return await opened(session_id, token_ids, sampling, endpoint)

    made.open = noted
    async with workplace(tmp_path / "db", engine=made, formats=FORMATS) as parts:
        all_agents = Agents(replace(parts, separates_owners=separates))
        for owner in (OWNER, OTHER):
            agent = await all_agents.create(owner, spec("hello", function_calling=mode))
            await until(agent, EventType.OUTPUT)
        await all_agents.stop()
    assert salts == ([OWNER, OTHER] if separates else [None, None])


async def test_answers_beyond_an_owners_places_wait_and_other_owners_do_not(
    tmp_path: Path,
) -> None:
    gate = asyncio.Event()

    async def paced(transcript: object) -> None:
        await gate.wait()

    engine = FakeEngine(END, model)
    engine.pace = paced
    async with agents(tmp_path / "db", engine=engine, generating_per_owner=2) as all_agents:
        made = [await all_agents.create(OWNER, spec(f"{n}", keep_open=False)) for n in range(5)]
        other = await all_agents.create(OTHER, spec("other", keep_open=False))
        begun = {made[0].id, made[1].id, other.id}
        await eventually(lambda: len(engine.streams) >= 3)
        for agent in made:  # each has come to its first turn
            await until(agent, EventType.PHASE)
        assert set(engine.streams) == begun
        await made[2].cancel()  # it waits for a place
        assert (await events(made[2]))[-1].data["ending"] == SessionEnding.CANCELLED
        gate.set()
        for agent in (*made[:2], *made[3:], other):
            told = await events(agent)
            assert told[-1].data["ending"] == SessionEnding.COMPLETED
        assert set(engine.streams) == begun | {made[3].id, made[4].id}


async def test_a_session_that_waits_for_its_tool_takes_no_place(tmp_path: Path) -> None:
    running, gate = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        """Wait."""
        running.set()
        await gate.wait()
        return "came"

    async with agents(tmp_path / "db", tool(wait), generating_per_owner=1) as all_agents:
        calling = await all_agents.create(OWNER, spec("<<wait {}>>\nend", keep_open=False))
        await running.wait()
        second = await all_agents.create(OWNER, spec("hello", keep_open=False))
        assert (await events(second))[-1].data["ending"] == SessionEnding.COMPLETED
        gate.set()
        assert (await events(calling))[-1].data["ending"] == SessionEnding.COMPLETED


async def test_calls_that_run_while_the_model_writes_need_no_second_place(tmp_path: Path) -> None:
    async with agents(
        tmp_path / "db",
        tool(_looked_up),
        engine=planned_engine(),
        formats=FORMATS,
        generating_per_owner=1,
    ) as all_agents:
        made = [
            await all_agents.create(
                OWNER,
                spec(call("c1", "_looked_up", x=n), keep_open=False, function_calling="async"),
            )
            for n in range(4)
        ]
        for agent in made:
            assert (await events(agent))[-1].data["ending"] == SessionEnding.COMPLETED


async def _looked_up(x: int) -> str:
    """Look something up."""
    return f"found {x}"
