"""Several servers on one database: any of them takes any request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from caesura.session.database import Statement
from server.served import Served, events, human, served
from session.workplace import Gate, eventually, tool
from support.databases import places
from support.databases.server import PostgresServer, postgres_server

ON_EACH_DATABASE = False  # several servers need PostgreSQL
LEASE_SECONDS = 30.0


@pytest.fixture(autouse=True)
def shared(postgres: PostgresServer, tmp_path: Path):
    places.are_at(lambda path: postgres.place(tmp_path))
    yield
    places.are_at(Path)


@asynccontextmanager
async def server(path: Path, *tools) -> AsyncIterator[Served]:
    async with served(path, *tools, lease_seconds=LEASE_SECONDS) as made:
        replica = made.work.replicas.id
        moved = Statement("UPDATE replicas SET address = ? WHERE id = ?", (made.url, replica))
        await made.work.store.commit(moved)
        yield made


async def test_any_server_takes_any_request(tmp_path: Path) -> None:
    gate = Gate()
    async with (
        server(tmp_path, tool(gate.tool), human()) as one,
        server(tmp_path, tool(gate.tool), human()) as two,
    ):
        session = await one.session('<<wait {"x": 1}>>\nend')
        url = f"/v1/sessions/{session['id']}"
        await eventually(lambda: gate.ran)
        assert (await two.client.get(url)).json()["pending_calls"]
        paused = await two.client.post(f"{url}/pause")
        assert (paused.status_code, paused.json()["held"]) == (200, True)
        assert one.agents.running[0].held
        assert (await two.client.post(f"{url}/resume")).json()["held"] is False
        said = await two.client.post(f"{url}/messages", json={"content": "more"})
        assert said.status_code == 202
        reading = asyncio.create_task(two.client.get(f"{url}/events"))
        gate[1].set()
        await one.until(session["id"], phase="idle")
        cancelled = await two.client.post(f"{url}/cancel")
        assert cancelled.json()["ending"] == "cancelled"
        told = events((await reading).text)
        assert [kind for _, kind, _ in told][-1] == "session.ended"
        assert "message.added" in {kind for _, kind, _ in told}
        numbers = [int(number) for number, _, _ in told if number]
        assert numbers == sorted(set(numbers))


async def test_an_answer_reaches_the_session_wherever_it_runs(tmp_path: Path) -> None:
    async with server(tmp_path, human()) as one, server(tmp_path, human()) as two:
        session = await one.session('<<ask {"question": "Really?"}>>\nend', keep_open=False)
        question = await one.asked()
        answer = await two.client.post(
            f"/v1/approvals/{question['id']}", json={"accepted": True, "text": "yes"}
        )
        assert answer.status_code == 200, answer.text
        await one.until(session["id"], ending="completed")


async def test_a_session_whose_server_does_not_answer_is_tried_again(tmp_path: Path) -> None:
    async with server(tmp_path) as one, server(tmp_path) as two:
        session = await one.session("hello")
        await one.until(session["id"], phase="idle")
        away = Statement(
            "UPDATE replicas SET address = 'http://127.0.0.1:9' WHERE address = ?", (one.url,)
        )
        await one.work.store.commit(away)
        refused = await two.client.post(f"/v1/sessions/{session['id']}/pause")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "5"


async def test_a_database_that_is_away_comes_back_by_itself(tmp_path: Path) -> None:
    with postgres_server(
        "synchronous_commit=on", "fsync=off"
    ) as own:  # it is stopped as in a crash
        places.are_at(lambda path: own.address())
        async with served(tmp_path, lease_seconds=LEASE_SECONDS) as one:
            session = await one.session("hello")
            await one.until(session["id"], phase="idle")
            own.stop()
            for answer in (
                await one.client.get(f"/v1/sessions/{session['id']}"),
                await one.client.post(
                    f"/v1/sessions/{session['id']}/messages", json={"content": "more"}
                ),
            ):
                assert answer.status_code == 503, answer.text
                assert answer.headers["retry-after"] == "5"
            own.start()
            said = await one.client.post(
                f"/v1/sessions/{session['id']}/messages", json={"content": "more"}
            )
            assert said.status_code == 202, said.text
            assert (await one.client.get(f"/v1/sessions/{session['id']}")).status_code == 200
