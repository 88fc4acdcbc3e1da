"""Routes of the overview: now, the past, and as it changes."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import TypeAdapter
from sse_starlette import EventSourceResponse, ServerSentEvent

from caesura.server.overview import FIELDS, Overview, Overviews
from caesura.server.overview_history import SIX_HOURS, Point

_JSON = TypeAdapter(Overview)
LONGEST_SECONDS = SIX_HOURS.interval_seconds * SIX_HOURS.points


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


def overview_router(overviews: Overviews) -> APIRouter:
    """Routes under `/v1/caesura/overview`. They show numbers of all owners, and contents of none.

    Args:
        overviews: what is shown.
    """
    router = APIRouter(prefix="/v1/caesura/overview", tags=["caesura"])

    @router.get("")
    async def now() -> Overview:
        """What all sessions and the engine do."""
        return await overviews.latest()

    @router.get("/history")
    async def history(
        seconds: Annotated[float, Query(gt=0, le=LONGEST_SECONDS)] = 900.0,
    ) -> HistoryPage:
        """Samples of the last so many seconds."""
        return HistoryPage(points=overviews.since(seconds))

    @router.get("/events")
    async def events() -> EventSourceResponse:
        """A server-sent event `overview` per second."""
        return EventSourceResponse(_events(overviews), headers={"Cache-Control": "no-store"})

    return router


async def _events(overviews: Overviews) -> AsyncIterator[ServerSentEvent]:
    async for overview in overviews.follow():
        data = _JSON.dump_json(overview).decode()
        yield ServerSentEvent(data=data, event="overview")
