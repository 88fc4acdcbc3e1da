"""Servers that share a database: killed, frozen and restarted, they lose nothing."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from caesura.session.agents import Agents
from caesura.session.database import Statement
from caesura.session.errors import ReplicaLost
from caesura.session.records import EventType
from session.workplace import OWNER, Gate, events, eventually, spec, tool, until, workplace
from support.databases import places
from support.databases.server import HOW, PostgresServer, programs
from support.draws import seeds

ON_EACH_DATABASE = False  # several servers need PostgreSQL
RUN = Path(__file__).parent / "replica_run.py"
LEASE_SECONDS = 30.0  # no server is taken for dead, unless a test says so


@pytest.mark.fuzz
@pytest.mark.skipif(programs() is None, reason=HOW)
@pytest.mark.parametrize("seed", seeds(1))
def test_nothing_is_lost_or_done_twice(tmp_path: Path, seed: int) -> None:
    numbers = ("--sessions", "20", "--kills", "4", "--freezes", "2", "--drains", "3")
    command = [sys.executable, str(RUN), str(tmp_path / "runs"), *numbers, "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 kills" in done.stdout


@pytest.fixture(autouse=True)
def shared(postgres: PostgresServer, tmp_path: Path):
    places.are_at(lambda path: postgres.place(tmp_path))
    yield
    places.are_at(Path)


def server(path: Path, *tools, lease_seconds: float = LEASE_SECONDS):
    return workplace(path, *tools, lease_seconds=lease_seconds)


async def test_a_session_is_run_by_one_server_and_goes_on_at_another(tmp_path: Path) -> None:
    gate = Gate()
    async with server(tmp_path, tool(gate.tool)) as one, server(tmp_path, tool(gate.tool)) as two:
        first, second = Agents(one), Agents(two)
        await first.start()
        await second.start()
        await first.create(OWNER, spec('<<wait {"x": 1}>>\nend', keep_open=False))
        await eventually(lambda: gate.ran == [1])
        assert not second.running
        await first.stop()
        await eventually(lambda: second.running)
        gate[1].set()
        told = await events(second.running[0])
        (call,) = [each for each in told if each.type is EventType.RESULT]
        assert call.data["ending"] == "interrupted", "it may have had its effects"
        await second.stop()


async def test_what_is_said_to_one_server_reaches_the_one_that_runs_the_session(
    tmp_path: Path,
) -> None:
    async with server(tmp_path) as one, server(tmp_path) as two:
        first, second = Agents(one), Agents(two)
        await first.start()
        await second.start()
        agent = await first.create(OWNER, spec("hello"))
        await until(agent, EventType.OUTPUT)
        await (await second.agent(OWNER, agent.id)).steer("and now")
        await until(agent, EventType.MESSAGE, content="and now")
        await first.stop()
        await second.stop()


async def test_a_server_writes_nothing_once_its_lease_is_over(tmp_path: Path) -> None:
    async with server(tmp_path) as one, server(tmp_path) as other:
        first = Agents(one)
        await first.start()
        agent = await first.create(OWNER, spec("hello"))
        await until(agent, EventType.OUTPUT)
        over = Statement("UPDATE replicas SET lease_until = '-infinity'")
        await other.store.commit(over)
        with pytest.raises(ReplicaLost, match="others have its sessions"):
            await one.store.commit(one.store.set_held(agent.id, True))
        record = await other.store.session(agent.id)
        assert record is not None
        assert not record.held
        await first.stop()


async def test_a_session_waits_for_a_server_of_its_model(tmp_path: Path) -> None:
    async with server(tmp_path) as one, server(tmp_path) as two:
        other = replace(two.replicas._served, fingerprint="another model")
        two.replicas._served = other
        first, second = Agents(one), Agents(two)
        await first.start()
        agent = await first.create(OWNER, spec("hello"))
        await until(agent, EventType.OUTPUT)
        await second.start()
        await first.stop()
        rows = await two.store._database.read("SELECT replica, due FROM sessions")
        assert rows == [(None, True)]
        await second.stop()
        assert not second.running
