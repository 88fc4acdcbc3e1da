"""The dashboard: a page of static files under `/dashboard/`, and the overview behind it."""

from argparse import Namespace
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from pydantic import TypeAdapter
from starlette.datastructures import State
from starlette.exceptions import HTTPException

from caesura.server.access import OwnerOf
from caesura.server.dashboard.overview import FIELDS, SIX_HOURS, Overview, Overviews, Point
from caesura.server.routing import NOT_ADMITTED
from caesura.server.sessions.event_stream import EventStreamResponse, encoded_event
from caesura.server.sessions.service import Service
from caesura.session.supervisor import Supervisor

router = APIRouter(prefix="/dashboard", include_in_schema=False)

STATIC = Path(__file__).parent / "static"
FILES = {file.relative_to(STATIC).as_posix(): file for file in STATIC.rglob("*") if file.is_file()}
# Whatever a tool or a model wrote into the page could neither run nor reach anything.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class Dashboard:
    """The part of the server that shows what it does. Comes after the part that runs sessions."""

    def attach(self, app: FastAPI) -> None:
        """Add the page and the routes of the overview."""
        app.include_router(router)
        app.include_router(overview_router)

    @asynccontextmanager
    async def running(
        self, engine_client: object, state: State, args: Namespace
    ) -> AsyncIterator[None]:
        """Sample the sessions, where there are some, and the engine."""
        service = state.caesura
        agents = service.agents if isinstance(service, Service) else None
        state.caesura_overviews = overviews = Overviews(agents)
        supervisor: Supervisor = state.caesura_supervisor
        supervisor.start("overview", overviews.run)
        try:
            yield
        finally:
            await supervisor.stop("overview")
            overviews.stop()


@router.get("")
async def redirect() -> RedirectResponse:
    """To the page: relative, so that it is right behind a proxy that adds a prefix."""
    return RedirectResponse("dashboard/", status_code=307)


@router.get("/{path:path}")
async def file(path: str) -> Response:
    """A file of the page. None needs a key: the page asks for one where the API does."""
    found = FILES.get(path or "index.html")
    if found is None:
        raise HTTPException(404)
    return FileResponse(found, headers=SECURITY_HEADERS)


overview_router = APIRouter(prefix="/v1/caesura/overview", tags=["caesura"], responses=NOT_ADMITTED)

LONGEST_SECONDS = SIX_HOURS.interval_seconds * SIX_HOURS.points
_KEEP_ALIVE_SECONDS = 15.0
_JSON: TypeAdapter[Overview] = TypeAdapter(Overview)


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Points of the past.

    Attributes:
        object: what this is.
        fields: what the values of a point are, after its time; paths into an overview.
        points: the oldest first.
    """

    object: Literal["overview.history"] = "overview.history"
    fields: tuple[str, ...] = FIELDS
    points: list[Point] = field(default_factory=list)


def _overviews_of(request: Request) -> Overviews:
    overviews: Overviews = request.app.state.caesura_overviews
    return overviews


OverviewsOf = Annotated[Overviews, Depends(_overviews_of)]


@overview_router.get("")
async def get_overview(overviews: OverviewsOf) -> Overview:
    """What all sessions and the engine do: numbers of all owners, and contents of none."""
    return await overviews.latest()


@overview_router.get("/history")
async def get_history(
    overviews: OverviewsOf,
    seconds: Annotated[float, Query(gt=0, le=LONGEST_SECONDS)] = 900.0,
) -> HistoryPage:
    """Samples of the last so many seconds."""
    return HistoryPage(points=overviews.since(seconds))


@overview_router.get(
    "/events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def follow_overview(request: Request, overviews: OverviewsOf, owner: OwnerOf) -> Any:
    """Server-sent events: an `overview` per second."""
    pieces = _events(overviews, request.app.state)
    service = request.app.state.caesura
    if not isinstance(service, Service):
        return EventStreamResponse(pieces, _KEEP_ALIVE_SECONDS)
    service.streams.open(owner)
    closed = partial(service.streams.close, owner)
    return EventStreamResponse(pieces, _KEEP_ALIVE_SECONDS, on_close=closed)


async def _events(overviews: Overviews, state: State) -> AsyncGenerator[bytes, None]:
    async with aclosing(overviews.follow()) as follow:
        async for overview in follow:
            if _is_stopping(state):
                return
            yield encoded_event(_JSON.dump_python(overview, mode="json"), "overview")


def _is_stopping(state: State) -> bool:
    """Whether the HTTP server (vLLM puts it there) waits for open connections, to stop."""
    server = getattr(state, "server", None)
    return server is not None and bool(server.should_exit)
