"""The part of the server that keeps responses: a seam on vLLM's serving object, and routes."""

import json
import logging
from argparse import Namespace
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.datastructures import State
from starlette.responses import JSONResponse
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest, ResponsesResponse
from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from caesura.server.access import current_caller
from caesura.server.bodies import BodyLimits
from caesura.server.clients.turns import ClientTurn, serving
from caesura.server.errors import ApiError, error_body
from caesura.server.owners import ANONYMOUS
from caesura.server.sessions.service import Service, Unavailable
from caesura.server.settings import ServerSettings
from caesura.server.stored.background import Background
from caesura.server.stored.items import Json, plain_items
from caesura.server.stored.responses import Asked, StoredResponses
from caesura.server.stored.routes import Responses, StoredRoute, router
from caesura.session.errors import SessionError
from caesura.session.limits import Limits
from caesura.session.store import Place, Store

logger = logging.getLogger(__name__)

WITHOUT_SESSIONS_BYTES = 256 * 2**20
"""What is kept for all owners where the server has no store of sessions."""
_COMPLETED = "response.completed"


class ResponseCreation:
    """Creates responses as vLLM does, keeps them, and continues those that were kept.

    vLLM is given all items of a conversation, and neither keeps anything nor generates in the
    background: what it has for that is in memory, without a bound, and knows no owners.

    Args:
        vllm: vLLM's serving object.
        responses: where they are kept.
    """

    def __init__(self, vllm: Any, responses: Responses) -> None:
        self._vllm = vllm
        self._create = vllm.create_responses
        self._stored, self._background = responses.stored, responses.background

    async def create(self, request: ResponsesRequest, raw_request: Request | None = None) -> Any:
        """As vLLM's `create_responses`."""
        try:
            asked, inner = await self._asked(request)
            if request.background:
                return await self._in_background(request, asked, inner, raw_request)
        except (ApiError, SessionError) as error:
            return self._refused(error)
        answer = await self._create(inner, raw_request)
        if isinstance(answer, ErrorResponse):
            return answer
        if isinstance(answer, ResponsesResponse):
            return await self._completed(request, asked, answer)
        return self._streamed(request, asked, answer)

    async def _asked(self, request: ResponsesRequest) -> tuple[Asked, ResponsesRequest]:
        """What is asked for, and the request to vLLM.

        Raises:
            ApiError: it cannot be done.
        """
        if (request.model_extra or {}).get("conversation") is not None:
            raise ApiError(
                400,
                "conversations are not kept here: send previous_response_id, or all items",
                param="conversation",
            )
        caller = current_caller()
        owner = caller.owner if caller is not None else ANONYMOUS
        if request.store and "request_id" in request.model_fields_set:
            await self._stored.require_new(owner, request.request_id)
        previous: Place | None = None
        history: list[Json] = []
        if request.previous_response_id is not None:
            previous, history = await self._stored.continued(owner, request.previous_response_id)
        items = plain_items(request.input)
        changes: Json = {"store": False, "background": False, "previous_response_id": None}
        if history or not isinstance(request.input, str):
            changes["input"] = ResponsesRequest.model_validate({"input": [*history, *items]}).input
        return Asked(owner, items, previous), request.model_copy(update=changes)

    async def _completed(
        self, request: ResponsesRequest, asked: Asked, response: ResponsesResponse
    ) -> ResponsesResponse:
        """A whole response, once it is kept."""
        _repeat(request, response)
        if request.store:
            try:
                await self._stored.add(asked, _as_json(response))
            except SessionError as error:
                logger.warning("the response %s is not kept: %s", response.id, error)
                response.store = False
        return response

    async def _streamed(
        self, request: ResponsesRequest, asked: Asked, events: AsyncGenerator[Any, None]
    ) -> AsyncGenerator[Any, None]:
        async with aclosing(events):
            async for event in events:
                if event.type == _COMPLETED:
                    await self._completed(request, asked, event.response)
                elif isinstance(getattr(event, "response", None), ResponsesResponse):
                    _repeat(request, event.response)
                yield event

    async def _in_background(
        self,
        request: ResponsesRequest,
        asked: Asked,
        inner: ResponsesRequest,
        raw_request: Request | None,
    ) -> Any:
        answer = await self._create(inner.model_copy(update={"stream": True}), raw_request)
        if isinstance(answer, ErrorResponse):
            return answer
        events = self._events(request, answer)
        response = await self._background.begin(asked, events, keeps_events=bool(request.stream))
        if not request.stream:
            return ResponsesResponse.model_validate(response)
        followed = await self._background.follow(asked.owner, response["id"], -1)
        return _sent(followed)

    async def _events(
        self, request: ResponsesRequest, events: AsyncGenerator[Any, None]
    ) -> AsyncGenerator[Json, None]:
        async with aclosing(events):
            async for event in events:
                if isinstance(getattr(event, "response", None), ResponsesResponse):
                    _repeat(request, event.response)
                yield _as_json(event)

    async def input_tokens(self, request: ResponsesRequest) -> int | ErrorResponse:
        """How many tokens the prompt of a request would have."""
        try:
            asked, inner = await self._asked(request)
        except (ApiError, SessionError) as error:
            return self._refused(error)
        with serving(ClientTurn(asked.owner)):
            rendered = await self._vllm.online_renderer.render_responses(
                inner, tool_server=self._vllm.tool_server
            )
        if isinstance(rendered, ErrorResponse):
            return rendered
        return int(self._vllm._extract_prompt_len(rendered.engine_input))

    def _refused(self, error: Exception) -> ErrorResponse:
        status, body = error_body(error)
        told = body.error.model_dump()
        return _Refused(error={**told, "code": status}, named=body.error.code)


class _Refused(ErrorResponse):
    """An error as vLLM's route sends it, with a code for programs in place of the status."""

    named: str | None = None

    def model_dump(self, **options: Any) -> Json:
        told = super().model_dump(**options)["error"]
        return {"error": {**told, "code": self.named or told["code"]}}


def _repeat(request: ResponsesRequest, response: ResponsesResponse) -> None:
    """Say in a response what its client has asked for, in place of what vLLM was."""
    response.store = bool(request.store)
    response.background = bool(request.background)
    response.previous_response_id = request.previous_response_id


def _as_json(value: Any) -> Json:
    found: Json = value.model_dump(mode="json", by_alias=True)
    return found


@dataclass(frozen=True, slots=True)
class _Sent:
    """An event as vLLM's route sends it."""

    type: str
    text: str

    def model_dump_json(self, **_: Any) -> str:
        return self.text


async def _sent(events: AsyncIterator[Json]) -> AsyncGenerator[_Sent, None]:
    async for event in events:
        yield _Sent(event["type"], json.dumps(event))


class KeptResponses:
    """Keeps responses for their owners, on the store of sessions."""

    def attach(self, app: FastAPI) -> None:
        """Add the routes of responses that are kept; vLLM's own of the same paths give way."""
        app.include_router(router)
        app.include_router(_vllm_routes)

    @asynccontextmanager
    async def running(
        self, engine_client: Any, state: State, args: Namespace
    ) -> AsyncIterator[None]:
        """What was being generated when the server stopped has failed."""
        async with AsyncExitStack() as running:
            service: Service | Unavailable = state.caesura
            settings: ServerSettings = state.caesura_settings
            if isinstance(service, Service):
                store, limits_of, body = (
                    service.store,
                    service.agents.limits_of,
                    service.body_limits,
                )
            else:
                owners = state.caesura_access.owners
                limits = settings.sessions.limits(owners)
                kept = min(limits.owner_bytes, WITHOUT_SESSIONS_BYTES // owners)
                store = running.enter_context(_store_of_process())
                limits_of = partial(_same, replace(limits, owner_bytes=kept))
                body = BodyLimits(settings.server.body_limit)
            stored = StoredResponses(store, limits_of, body)
            await stored.fail_lost()
            background = Background(stored)
            running.push_async_callback(background.stop)
            state.caesura_responses = responses = Responses(
                stored, background, settings.server.keep_alive_seconds
            )
            creation = ResponseCreation(state.openai_serving_responses, responses)
            state.openai_serving_responses.create_responses = creation.create
            state.caesura_response_creation = creation
            yield


def _same(limits: Limits, owner: str) -> Limits:
    return limits


@contextmanager
def _store_of_process() -> Iterator[Store]:
    """A store for as long as the process runs."""
    with (
        TemporaryDirectory(prefix="caesura-") as directory,
        closing(Store(Path(directory) / "responses.db")) as store,
    ):
        yield store


_vllm_routes = APIRouter(tags=["responses"], route_class=StoredRoute)


@_vllm_routes.post("/v1/responses/input_tokens", response_model=None)
async def count_input_tokens(body: ResponsesRequest, request: Request) -> Response:
    """How many tokens the prompt of such a request would have."""
    creation: ResponseCreation = request.app.state.caesura_response_creation
    tokens = await creation.input_tokens(body)
    if isinstance(tokens, ErrorResponse):
        return JSONResponse(tokens.model_dump(mode="json"), tokens.error.code)
    return JSONResponse({"object": "response.input_tokens", "input_tokens": tokens})


@_vllm_routes.get("/v1/models/{model:path}", response_model=None)
async def get_model(model: str, request: Request) -> Response:
    """A model that is served."""
    models = await request.app.state.openai_serving_models.show_available_models()
    for card in models.data:
        if card.id == model:
            return JSONResponse(card.model_dump(mode="json"))
    raise ApiError(404, f"the model {model!r} does not exist", code="model_not_found")
