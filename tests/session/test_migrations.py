"""Databases of earlier versions are opened, and their sessions go on."""

import hashlib
import sqlite3
from dataclasses import replace
from pathlib import Path

from caesura.cml import Interrupt, Mode, Point
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
from caesura.session.store import Store, keyed_owner
from caesura.session.store.sqlite_schema import MIGRATIONS
from caesura.tools.call import ToolCall
from session.calling.byte_model import written
from session.planned import FORMATS, PlannedFormat, call, engine, read
from session.workplace import OWNER, agents, events, spec, store_of, stored, texts, tool, until

ON_EACH_DATABASE = False  # it is about SQLite's file


async def test_a_session_of_the_first_schema_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "db"
    async with agents(path, tool(look)) as all_agents:
        old = await all_agents.create(OWNER, spec("hello"))

        async def idle() -> bool:
            return (await all_agents.get(OWNER, old.id)).phase == "idle"

        await stored(idle)
    as_of(1, path)
    async with agents(path, tool(look)) as all_agents:
        (agent,) = all_agents.running
        assert await store_of(all_agents).course(agent.id, 7) == Course(7)
        await agent.cancel()
        assert (await events(agent))[-1].data["ending"] == SessionEnding.CANCELLED


async def test_owners_of_an_earlier_version_keep_their_sessions(tmp_path: Path) -> None:
    path = tmp_path / "db"
    digest = hashlib.sha256(b"alpha").hexdigest()
    async with agents(path) as all_agents:
        made = [await all_agents.create(owner, spec("hello")) for owner in (digest, "anonymous")]
        for agent in made:
            await until(agent, EventType.OUTPUT)
        taken = await store_of(all_agents).owner_bytes(digest)
    as_of(2, path)
    async with agents(path) as all_agents:
        store = store_of(all_agents)
        secret = await store.secret()
        assert len(secret) == 32
        owner = keyed_owner(secret, digest)
        assert (await all_agents.get(owner, made[0].id)).owner == owner
        assert (await all_agents.get("anonymous", made[1].id)).owner == "anonymous"
        assert await all_agents.sessions(digest) == []
        assert await store.owner_bytes(owner) == taken
        assert await store.owner_bytes(digest) == 0
    async with agents(path) as all_agents:
        assert await store_of(all_agents).secret() == secret
    async with agents(tmp_path / "other") as all_agents:
        assert await store_of(all_agents).secret() != secret


def as_of(version: int, path: Path) -> None:
    """Make the database one of an earlier schema, with what that one could store."""
    path.rename(path.with_name("newer"))
    old = sqlite3.connect(path, isolation_level=None)
    for script in MIGRATIONS[:version]:
        old.executescript(script)
    old.execute(f"ATTACH '{path.with_name('newer')}' AS newer")
    tables = old.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'").fetchall()
    for (table,) in tables:
        if not table.startswith("sqlite_"):
            columns = [row[1] for row in old.execute(f"PRAGMA main.table_info({table})")]
            named = ", ".join(columns)
            old.execute(f"INSERT INTO main.{table} SELECT {named} FROM newer.{table}")
    old.execute(f"PRAGMA user_version = {version}")
    old.close()


def look(x: int) -> str:
    """Look."""
    return f"saw {x}"


COURSE = (
    '{"point":"TRAPPED","generated_tokens":%d,"reasoning":false,"rounds":2,'
    '"refused_ids":["w"],"told":[["w","no"]]}'
)


async def test_the_course_of_an_earlier_version_is_gone_on_with(tmp_path: Path) -> None:
    plan = f"{call('w', 'nothing')}{call('a', 'look', x=1)}"
    spec_stored = FORMATS.settled(spec(f"{plan}|?a|=a", function_calling="async", keep_open=False))
    prompt = PlannedFormat().prompt(spec_stored.messages, (), Mode.ASYNC)
    generated = written(f"{plan}[TRAP][END]")
    record = SessionRecord("s", OWNER, spec_stored, Phase.CALLING, False, 1, None, None, 10, 0, 0)
    store = Store(tmp_path / "db")
    course = COURSE % len(generated)
    await store.commit(
        store.add_session(record),
        store.add_tokens("s", 0, [*prompt, *generated]),
        store.add_call(CallRecord(ToolCall("c", "look", '{"x": 1}', "s"), 1, 0, label="a")),
        Statement("UPDATE sessions SET course = ? WHERE id = 's'", (course,)),
    )
    position = len(prompt) + len(generated)
    error = Interrupt("w", "no")
    expected = Course(position, Point.TRAPPED, len(generated), False, 2, ("w",), (error,))
    assert await store.course("s", position) == expected
    reasoning = replace(expected, point=Point.WRITING, reasoning=True)
    for course_now in (reasoning, expected):
        await store.commit(store.set_course("s", course_now))
        assert await store.course("s", position) == course_now
    store.close()
    async with agents(tmp_path / "db", tool(look), engine=engine(), formats=FORMATS) as all_agents:
        (agent,) = all_agents.running
        told = await events(agent)
    assert told[-1].data["ending"] == SessionEnding.COMPLETED
    assert texts(told) == "saw 1"
    results, _ = read(agent.transcript[len(prompt) :])
    assert results == {"w": "no", "a": "saw 1"}


async def test_sessions_of_a_protocol_that_was_removed_end_and_say_so(tmp_path: Path) -> None:
    def asked(phase: Phase, name: str) -> SessionRecord:
        settled = FORMATS.settled(spec("hello", function_calling="async"))
        return SessionRecord(name, OWNER, settled, phase, False, 1, None, None, 10, 0, 0)

    store = Store(tmp_path / "db")
    names = {phase: f"was {phase}" for phase in Phase}
    for phase, name in names.items():
        await store.commit(store.add_session(asked(phase, name)), store.add_tokens(name, 0, [1]))
    waiting = CallRecord(ToolCall("c", "look", '{"x": 1}', names[Phase.CALLING]), 1, 0, label="a")
    await store.commit(
        store.add_call(waiting),
        Statement("UPDATE sessions SET spec = json_set(spec, '$.protocol', 'prompted')"),
        store.add_session(asked(Phase.IDLE, "damaged")),
        Statement("UPDATE sessions SET spec = '{' WHERE id = 'damaged'"),
    )
    store.close()
    as_of(3, tmp_path / "db")
    async with agents(tmp_path / "db", tool(look), engine=engine(), formats=FORMATS) as all_agents:
        assert not all_agents.running
        found = {record.id: record for record in await all_agents.sessions(OWNER)}
        assert found.keys() == set(names.values())
        assert {record.phase for record in found.values()} == {Phase.ENDED}
        for phase, name in names.items():
            told = await events(await all_agents.agent(OWNER, name))
            if phase is Phase.ENDED:
                assert not told
                continue
            assert (found[name].ending, told[-1].data["ending"]) == (SessionEnding.FAILED,) * 2
            assert "protocol prompted" in told[-1].data["error"]
            assert "caesura train" in told[-1].data["error"]
        (call_record,) = await store_of(all_agents).undelivered_calls(names[Phase.CALLING])
        assert call_record.state is CallState.DONE
