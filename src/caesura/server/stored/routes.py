"""Routes of responses that are kept: shown, followed, cancelled, deleted."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse

from caesura.server.access import OwnerOf
from caesura.server.errors import ApiError, error_response
from caesura.server.sessions.event_stream import EventStreamResponse, encoded_event
from caesura.server.stored.background import Background
from caesura.server.stored.items import Json, Page
from caesura.server.stored.responses import StoredResponses


@dataclass(frozen=True, slots=True)
class Responses:
    """What the routes work with; in `app.state.caesura_responses`.

    Attributes:
        stored: the responses.
        background: those that are being generated.
        keep_alive_seconds: a comment is sent on event streams that often.
    """

    stored: StoredResponses
    background: Background
    keep_alive_seconds: float = 15.0


class StoredRoute(APIRoute):
    """A route whose errors are answered here, since vLLM's handlers would change them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute`."""
        handle = super().get_route_handler()

        async def handle_errors(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                return error_response(error)

        return handle_errors


def responses_of(request: Request) -> Responses:
    """What serves a request.

    Raises:
        ApiError: the server is starting or stopping.
    """
    responses = getattr(request.app.state, "caesura_responses", None)
    if not isinstance(responses, Responses):
        raise ApiError(503, "responses cannot be found now: the server is starting or stopping")
    return responses


ResponsesOf = Annotated[Responses, Depends(responses_of)]
router = APIRouter(prefix="/v1/responses", tags=["responses"], route_class=StoredRoute)


@router.get("/{response_id}", response_model=None)
async def get_response(
    response_id: str,
    responses: ResponsesOf,
    owner: OwnerOf,
    stream: bool = False,
    starting_after: Annotated[int, Query(ge=-1)] = -1,
) -> Response:
    """A response; with `stream`, the events of one that was streamed in the background."""
    if not stream:
        return JSONResponse(await responses.background.response(owner, response_id))
    events = await responses.background.follow(owner, response_id, starting_after)
    return EventStreamResponse(_encoded(events), responses.keep_alive_seconds)


async def _encoded(events: AsyncIterator[Json]) -> AsyncGenerator[bytes, None]:
    async for event in events:
        yield encoded_event(event, event["type"])


@router.delete("/{response_id}", response_model=None)
async def delete_response(response_id: str, responses: ResponsesOf, owner: OwnerOf) -> Response:
    """Forget a response. What was continued from it keeps its history."""
    await responses.background.delete(owner, response_id)
    return JSONResponse({"id": response_id, "object": "response", "deleted": True})


@router.post("/{response_id}/cancel", response_model=None)
async def cancel_response(response_id: str, responses: ResponsesOf, owner: OwnerOf) -> Response:
    """End a response in the background."""
    return JSONResponse(await responses.background.cancel(owner, response_id))


@router.get("/{response_id}/input_items", response_model=None)
async def get_input_items(
    response_id: str,
    responses: ResponsesOf,
    owner: OwnerOf,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Response:
    """The items that a response was generated from, those of its conversation among them."""
    items = await responses.stored.items(owner, response_id)
    return JSONResponse(Page(after, limit, order).of(items))
