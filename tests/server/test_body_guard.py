"""No route of the application, vLLM's or ours, gets a body that was not looked at."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from caesura.server.body_guard import place_of_half
from caesura.server.body_scan import DEEPEST, MOST_VALUES
from caesura.server.definitions import MOST_MESSAGES, MOST_TOOLS
from caesura.server.settings import ServerSection
from server.served import JSON, application, served
from server.test_access import places, real_application

LIMIT = ServerSection().request_limit
FUNCTION = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
REFUSED: dict[str, tuple[bytes, str]] = {
    "values": (b'{"x": [' + b"[]," * MOST_VALUES + b"[]]}", "body_too_complex"),
    "depth": (b'{"x": ' + b"[" * DEEPEST + b"]" * DEEPEST + b"}", "body_too_complex"),
    "UTF-16": ('{"messages": "∢"}'.encode("utf-16"), "not_json"),
    "tools": (json.dumps({"tools": [FUNCTION] * (MOST_TOOLS + 1)}).encode(), "body_too_complex"),
    "messages": (json.dumps({"messages": [{}] * (MOST_MESSAGES + 1)}).encode(), "body_too_complex"),
    "pattern": (
        json.dumps({"response_format": {"pattern": "(a|a?){60}b{9999}"}}).encode(),
        "body_too_complex",
    ),
}
HALF = "\ud800"
HALVES: dict[str, Any] = {
    "vllm_xargs.caesura_endpoint": {"vllm_xargs": {"caesura_endpoint": HALF}},
    "vllm_xargs": {"vllm_xargs": {HALF: 1}},
    "messages.0.content": {"messages": [{"role": "user", "content": HALF}]},
    "tools.0.function.name": {"tools": [{"function": {"name": HALF}}]},
    "metadata.a": {"metadata": {"a": "\udfff"}},
    "stop.1": {"stop": ["x", HALF]},
    "prompt": {"prompt": "\ude00\ud83d"},
    "text": {"text": HALF},
    "input.0": {"input": [HALF]},
}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return real_application()


@pytest.fixture(scope="module")
def posted(app: FastAPI) -> list[tuple[str, str]]:
    """Everything of the application that may have a body."""
    found = [place for place in places(app.routes) if place[0] not in ("GET", "HEAD", "OPTIONS")]
    paths = {path for _, path in found}
    assert {"/tokenize", "/detokenize", "/v1/chat/completions", "/v1/completions"} <= paths
    assert {"/v1/messages", "/v1/responses", "/v1/sessions", "/v1/approvals/x"} <= paths
    return sorted(found)


async def answers(
    app: FastAPI, posted: list[tuple[str, str]], content: Any, headers: dict[str, str] = JSON
) -> set[tuple[int, str | None]]:
    """Statuses and codes of what the routes answer."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    found = set()
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for method, path in posted:
            body = content() if callable(content) else content
            answer = await client.request(method, path, content=body, headers=headers)
            found.add((answer.status_code, _code(answer)))
    return found


def _code(answer: httpx.Response) -> str | None:
    try:
        return answer.json()["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return None


@pytest.mark.parametrize("kind", REFUSED)
async def test_no_route_gets_what_takes_long(
    app: FastAPI, posted: list[tuple[str, str]], kind: str
) -> None:
    body, code = REFUSED[kind]
    assert await answers(app, posted, body) == {(400, code)}


@pytest.mark.parametrize("place", HALVES)
async def test_half_of_a_character_is_refused_on_every_route(
    app: FastAPI, posted: list[tuple[str, str]], place: str
) -> None:
    body = json.dumps(HALVES[place]).encode()
    assert await answers(app, posted, body) == {(400, "not_unicode")}
    assert place_of_half(json.loads(body)) == place
    raw = json.dumps(HALVES[place], ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert await answers(app, posted, raw) == {(400, "not_json")}


async def test_no_route_gets_more_than_the_limit(
    app: FastAPI, posted: list[tuple[str, str]]
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 2**24

    assert await answers(app, posted, endless) == {(413, "body_too_large")}
    headers = {**JSON, "Content-Length": str(LIMIT + 1)}
    assert await answers(app, posted, b"", headers) == {(413, "body_too_large")}


async def test_what_a_body_says_it_is_long_is_refused_before_any_of_it_is_received() -> None:
    received = []

    async def receive() -> dict[str, Any]:
        received.append(1)
        return {"type": "http.request", "body": b"x", "more_body": True}

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", b"%d" % (LIMIT + 1)), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/x", "headers": headers}
    scope |= {"query_string": b"", "scheme": "http", "server": ("localhost", 80)}
    headers.append((b"host", b"localhost"))
    await application(None, [])(scope, receive, send)
    assert sent[0]["status"] == 413
    assert not received


async def test_a_form_has_a_limit_too() -> None:
    app = application(None, [])

    @app.post("/v1/audio/transcriptions")
    async def transcribe(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    async def sent(parts: int) -> AsyncIterator[bytes]:
        for _ in range(parts):
            yield b"x" * 2**24

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for parts, status in ((LIMIT // 2**24, 200), (LIMIT // 2**24 + 1, 413)):
            answer = await client.post(
                "/v1/audio/transcriptions", content=sent(parts), headers=headers
            )
            assert answer.status_code == status


async def test_the_limit_is_a_setting_and_bodies_pass_as_they_came(tmp_path: Path) -> None:
    async with served(tmp_path / "db", context_tokens=MOST_VALUES) as server:
        fitting = b'\xef\xbb\xbf {"prompt": [' + b"1, " * (2 * MOST_VALUES - 2) + b"1]}"
        for content, expected in (
            (fitting, 200),
            (fitting.replace(b"1]", b"1, 1]"), 400),
            (b'{"messages": [{"content": "' + b"x" * 16 * MOST_VALUES + b'"}]}', 200),
            (b'{"messages": [{"content": "' + b"x" * (16 * MOST_VALUES + 1) + b'"}]}', 400),
        ):
            answer = await server.client.post("/v1/chat/completions", content=content, headers=JSON)
            assert answer.status_code == expected, answer.text
            assert (server.untouched[-1:] == [content]) is (expected == 200)
