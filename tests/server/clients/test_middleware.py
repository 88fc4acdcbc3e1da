"""Which requests are turns, and what their headers say."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from caesura.server.access import CALLER, Caller
from caesura.server.clients.middleware import TurnMiddleware
from caesura.server.clients.turns import ClientTurn, Continuation, current_turn
from caesura.session.returns import ContextReturn

RETURNED = ContextReturn("get_weather", "swap", "swap", 100, 64, 32, 4, 1.5, None)


async def show_turn(request: Request) -> JSONResponse:
    """What a handler sees, in a task of its own as vLLM's are."""

    async def handler() -> ClientTurn | None:
        return current_turn()

    turn = await asyncio.create_task(handler())
    if turn is not None and request.headers.get("x-rendered"):
        turn.messages = []
        turn.continuation = Continuation.TRANSCRIPT
        turn.returned = RETURNED
    return JSONResponse(None if turn is None else {"owner": turn.owner})


@pytest.fixture
def client() -> httpx.AsyncClient:
    paths = ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions")
    app = Starlette(routes=[Route(path, show_turn, methods=["GET", "POST"]) for path in paths])
    app.add_middleware(TurnMiddleware)

    async def admitted(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, CALLER: Caller("anna")}, receive, send)

    transport = httpx.ASGITransport(admitted)
    return httpx.AsyncClient(transport=transport, base_url="http://server")


async def test_only_requests_of_the_client_routes_are_turns(client: httpx.AsyncClient) -> None:
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages"):
        assert (await client.post(path)).json() is not None
    assert (await client.post("/v1/completions")).json() is None
    assert (await client.get("/v1/responses")).json() is None


async def test_headers_say_what_became_of_the_context(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/messages", headers={"x-rendered": "yes"})
    told = {name: text for name, text in response.headers.items() if name.startswith("x-caesura")}
    assert told == {
        "x-caesura-continuation": "transcript",
        "x-caesura-endpoint": "get_weather",
        "x-caesura-policy": "swap",
        "x-caesura-disposition": "swap",
        "x-caesura-context-tokens": "100",
        "x-caesura-held-tokens": "64",
        "x-caesura-loaded-tokens": "32",
        "x-caesura-recomputed-tokens": "4",
        "x-caesura-paused-seconds": "1.500",
    }


async def test_a_request_that_was_not_rendered_has_no_headers(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/messages")
    assert not any(name.startswith("x-caesura") for name in response.headers)
