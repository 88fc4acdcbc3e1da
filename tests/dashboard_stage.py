"""The server's routes and its dashboard over HTTP, on the fake engine and with real tools."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from caesura.server import approvals, sessions
from caesura.server.dashboard import Dashboard
from caesura.server.overview import Overviews
from caesura.server.service import Service
from caesura.server.settings import ServerSection
from caesura.session.agent import Workplace
from caesura.session.agents import Agents


class Server(uvicorn.Server):
    """In the loop of the test, which keeps its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_app(
    work: Workplace,
    agents: Agents,
    registry: CollectorRegistry | None = None,
    *,
    has_keys: bool = False,
) -> FastAPI:
    app = FastAPI()
    app.include_router(sessions.router)
    app.include_router(approvals.router)
    Dashboard().attach(app)
    settings = ServerSection()
    app.state.caesura = Service(agents, work.store, work.executor, settings, ("demo",), has_keys)
    app.state.caesura_overviews = Overviews(agents, registry or CollectorRegistry())
    return app


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """Serve an application that samples itself; its address."""
    overviews: Overviews = app.state.caesura_overviews
    server = Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    app.state.server = server
    await overviews.start()
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task
        await overviews.stop()
