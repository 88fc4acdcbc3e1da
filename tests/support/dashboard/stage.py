"""The server's routes and its dashboard over HTTP, on the fake engine and with real tools."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from caesura.server.dashboard.dashboard import Dashboard
from caesura.server.dashboard.overview import Overviews
from caesura.server.sessions.service import Service
from caesura.server.settings import ServerSection
from caesura.session.agents import Agents
from caesura.session.supervisor import Supervisor
from caesura.session.workplace import Workplace
from server.served import MODEL, application, listening


def make_app(
    work: Workplace,
    agents: Agents,
    registry: CollectorRegistry | None = None,
    *,
    keys: Sequence[str] = (),
) -> FastAPI:
    settings = ServerSection()
    service = Service(agents, work.store, work.executor, settings, (MODEL,), Path())
    app = application(service, [], keys=keys)
    Dashboard().attach(app)
    app.state.caesura_overviews = Overviews(agents, registry or CollectorRegistry())
    return app


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """Serve an application that samples itself; its address."""
    overviews: Overviews = app.state.caesura_overviews
    supervisor = Supervisor()
    supervisor.start("overview", overviews.run)
    try:
        async with listening(app) as url:
            yield url
    finally:
        await supervisor.stop("overview")
        overviews.stop()
