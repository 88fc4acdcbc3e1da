"""`/health` says what only a restart can repair."""

from pathlib import Path
from types import SimpleNamespace

import httpx
from fastapi import FastAPI, Response
from starlette.datastructures import State

from caesura.server.health import Health, problems
from caesura.server.sessions.service import STOPPING, Unavailable
from caesura.session.supervisor import Supervisor
from server.served import served
from session.workplace import eventually


async def status(state: dict[str, object], path: str = "/health") -> int:
    return (await asked(state, path)).status_code


async def asked(state: dict[str, object], path: str) -> httpx.Response:
    app = FastAPI()
    app.state = State(state)

    @app.get("/health")
    async def vllm() -> Response:
        return Response(status_code=200)

    app.add_middleware(Health)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost"
    ) as client:
        return await client.get(path)


async def test_a_store_whose_thread_is_gone_is_unhealthy(tmp_path: Path) -> None:
    async with served(tmp_path / "db") as server:
        state = {"caesura": server.service, "caesura_supervisor": Supervisor()}
        assert (await status(state), problems(State(state))) == (200, [])
        assert await status(state, "/ready") == 200
        database = server.work.store._database
        database._jobs.put(None)
        database._thread.join()
        assert await status(state) == await status(state, "/ready") == 503
        assert problems(State(state)) == ["the session store's thread is gone"]


async def test_a_task_that_is_started_again_is_seen_and_asks_for_no_restart() -> None:
    async def work() -> None:
        raise RuntimeError("broken")

    supervisor = Supervisor()
    state = {"caesura": Unavailable("no sessions"), "caesura_supervisor": supervisor}
    supervisor.start("t", work)
    await eventually(supervisor.problems)
    assert (await status(state), problems(State(state))) == (
        200,
        ["t is down: RuntimeError: broken"],
    )
    await supervisor.stop("t")


async def test_a_dead_engine_is_told_from_a_server_that_is_not_there() -> None:
    engine, supervisor = SimpleNamespace(errored=False), Supervisor()
    state = {"engine_client": engine, "caesura": None, "caesura_supervisor": supervisor}
    assert await status(state) == await status(state, "/ready") == 200
    engine.errored = True
    for path in ("/health", "/ready"):
        answer = await asked(state, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_dead")
    assert problems(State(state)) == ["an engine is dead"]


async def test_a_server_that_stops_is_alive_and_takes_nothing_new() -> None:
    state: dict[str, object] = {"caesura": STOPPING}
    assert await status(state) == 200
    answer = await asked(state, "/ready")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping")


async def test_a_server_without_sessions_is_ready_for_all_else() -> None:
    assert await status({"caesura": Unavailable("no sessions")}, "/ready") == 200
