"""Routes of the overview: now, the past, and as it changes."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import TypeAdapter
from starlette.datastructures import State
from starlette.responses import Response

from caesura.server.dashboard.overview import FIELDS, Overview, Overviews
from caesura.server.dashboard.overview_history import SIX_HOURS, Point
from caesura.server.sessions.event_stream import EventStreamResponse, encoded_event

router = APIRouter(prefix="/v1/caesura/overview", tags=["caesura"])

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


def overviews_of(request: Request) -> Overviews:
    """The samples of this server."""
    overviews: Overviews = request.app.state.caesura_overviews
    return overviews


OverviewsOf = Annotated[Overviews, Depends(overviews_of)]


@router.get("")
async def get_overview(overviews: OverviewsOf) -> Overview:
    """What all sessions and the engine do: numbers of all owners, and contents of none."""
    return await overviews.latest()


@router.get("/history")
async def get_history(
    overviews: OverviewsOf,
    seconds: Annotated[float, Query(gt=0, le=LONGEST_SECONDS)] = 900.0,
) -> HistoryPage:
    """Samples of the last so many seconds."""
    return HistoryPage(points=overviews.since(seconds))


@router.get(
    "/events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def follow_overview(request: Request, overviews: OverviewsOf) -> Any:
    """Server-sent events: an `overview` per second."""
    return EventStreamResponse(_events(overviews, request.app.state), _KEEP_ALIVE_SECONDS)


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
