"""`/health` says what only a restart can repair."""

from pathlib import Path

import httpx
from fastapi import FastAPI, Response
from starlette.datastructures import State

from caesura.server.health import Health, problems
from caesura.server.sessions.service import Unavailable
from caesura.session.supervisor import Supervisor
from server.served import served
from session.workplace import eventually


async def status(state: dict[str, object]) -> int:
    app = FastAPI()
    app.state = State(state)

    @app.get("/health")
    async def vllm() -> Response:
        return Response(status_code=200)

    app.add_middleware(Health)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost"
    ) as client:
        return (await client.get("/health")).status_code


async def test_a_store_whose_thread_is_gone_is_unhealthy(tmp_path: Path) -> None:
    async with served(tmp_path / "db") as server:
        state = {"caesura": server.service, "caesura_supervisor": Supervisor()}
        assert (await status(state), problems(State(state))) == (200, [])
        database = server.work.store._database
        database._jobs.put(None)
        database._thread.join()
        assert await status(state) == 503
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
