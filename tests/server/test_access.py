"""Who is served: every route of the real application, asked by those who may not use it."""

import re
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import Message, Scope
from starlette.websockets import WebSocket

from caesura.errors import ConfigurationError
from caesura.server.access import Access, given_keys, is_local, is_loopback, require_closed
from caesura.server.dashboard.dashboard import FILES
from caesura.server.gate import close_gate
from caesura.server.owners import Owners
from caesura.variables import environment
from server.served import known
from support.cli.vllm_flags import vllm_parser

KEY = "key of anna"
TASKS = ("generate", "realtime", "transcription", "embed", "classify", "score", "render")


def vllm_arguments(*flags: str) -> Namespace:
    return vllm_parser().parse_args(list(flags))


def real_application(*flags: str, hosts: Sequence[str] = ()) -> FastAPI:
    """vLLM's application with all of its routes and ours, behind the gate; nothing serves it."""
    from vllm.entrypoints.launchers.app import build_app

    args = vllm_arguments(*flags)
    with environment({"VLLM_PLUGINS": "caesura"}):
        app = build_app(args, TASKS)
    access = Access.of_server(args, hosts)
    app.state.caesura_owners = Owners(access.has_keys)
    close_gate(app, access)
    return app


def places(routes: Sequence[BaseRoute]) -> set[tuple[str, str]]:
    """Method and path of everything that an application serves over HTTP."""
    found = set()
    for route in routes:
        if isinstance(route, Mount):
            found.add(("GET", route.path))
        elif isinstance(route, Route):
            path = re.sub(r"{[^}]*}", "x", route.path)
            found |= {(method, path) for method in route.methods or ()}
    return found


@pytest.fixture(scope="module")
def with_key() -> FastAPI:
    return real_application("--api-key", KEY)


@pytest.fixture(scope="module")
def without_key() -> FastAPI:
    return real_application()


async def statuses(
    app: FastAPI, served: set[tuple[str, str]], host: str = "localhost", **request: Any
) -> dict[tuple[str, str], int]:
    """What each of them answers; an error of a route that lacks its engine is 500."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    request["headers"] = {"Host": host, **request.get("headers", {})}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return {
            place: (await client.request(*place, **request)).status_code for place in sorted(served)
        }


def is_open(place: tuple[str, str]) -> bool:
    method, path = place
    return method in ("GET", "HEAD") and (
        path in ("/health", "/ping", "/dashboard") or path.startswith("/dashboard/")
    )


async def test_every_route_asks_for_the_key(with_key: FastAPI) -> None:
    served = places(with_key.routes)
    assert {("GET", "/metrics"), ("GET", "/version"), ("POST", "/tokenize")} <= served
    assert {("POST", "/v1/sessions"), ("GET", "/v1/caesura/overview")} <= served
    wrong = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}]
    wrong += ({"x-api-key": "wrong"}, {"x-api-key": ""}, {"Authorization": "", "x-api-key": KEY})
    for headers in (*wrong, {"Authorization": "Bearer"}, {"Authorization": f"Bearer {KEY} "}):
        answers = await statuses(with_key, served, headers=headers, json={})
        assert {place for place, status in answers.items() if status != 401} == {
            place for place in served if is_open(place)
        }
    for headers in ({"Authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}):
        answers = await statuses(with_key, served, headers=headers, json={})
        assert not {401, 403, 415} & set(answers.values())


async def test_what_is_open_shows_nothing(with_key: FastAPI) -> None:
    """The files of the page are the same for everybody."""
    page = {("GET", f"/dashboard/{name}") for name in FILES}
    assert set((await statuses(with_key, page)).values()) == {200}
    assert await statuses(with_key, {("GET", "/dashboard/../v1/sessions")}) != {200}


async def test_no_route_answers_to_a_strangers_name(without_key: FastAPI) -> None:
    """As a page does whose name is bound to this machine once it is loaded."""
    served = places(without_key.routes)
    for host in ("rebound.example:8000", "localhost.example", "10.0.0.7", "127.0.0.1.example"):
        assert set((await statuses(without_key, served, host, json={})).values()) == {403}
    answers = await statuses(without_key, served, json={})
    assert not {401, 403, 415} & set(answers.values())


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "https://localhost"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
    ids=str,
)
async def test_no_route_answers_a_page_of_another_origin(
    without_key: FastAPI, headers: dict[str, str]
) -> None:
    served = places(without_key.routes) | {("OPTIONS", "/v1/sessions")}
    answers = await statuses(without_key, served, headers=headers)
    assert set(answers.values()) == {403}


async def test_a_link_to_the_page_may_be_followed(without_key: FastAPI) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert await statuses(without_key, {("GET", "/dashboard/")}, headers=link) == {
        ("GET", "/dashboard/"): 200
    }
    posted = await statuses(without_key, {("POST", "/v1/sessions")}, headers=link)
    assert set(posted.values()) == {403}


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png"])
async def test_no_route_takes_a_body_that_is_not_json(
    with_key: FastAPI, without_key: FastAPI, kind: str
) -> None:
    asked = {"Content-Type": kind, "Authorization": f"Bearer {KEY}"}
    body = b'{"caesura": {"tools": "all"}, "messages": [{"role": "user", "content": "x"}]}'
    for app in (with_key, without_key):
        served = places(app.routes)
        answers = await statuses(app, served, headers=asked, content=body)
        assert set(answers.values()) == {415}


async def test_a_body_without_a_type_is_refused_and_no_body_needs_none(
    without_key: FastAPI,
) -> None:
    place = {("POST", "/v1/sessions/x/pause")}

    async def streamed():
        yield b"{}"

    assert set((await statuses(without_key, place, content=streamed())).values()) == {415}
    assert set((await statuses(without_key, place)).values()) == {503}  # no sessions are run


async def test_files_are_sent_as_forms_where_vllm_takes_files(without_key: FastAPI) -> None:
    files = {"file": ("a.wav", b"x")}
    answers = await statuses(
        without_key, {("POST", "/v1/audio/transcriptions"), ("POST", "/v1/sessions")}, files=files
    )
    assert answers[("POST", "/v1/sessions")] == 415
    assert answers[("POST", "/v1/audio/transcriptions")] not in (401, 403, 415)


async def served_as(access: Access, host: str, origin: str | None = None, **scope: object) -> int:
    """The status of a request to an application that answers 204."""
    app = FastAPI()
    app.state.caesura_owners = Owners(access.has_keys)

    @app.get("/v1/sessions", status_code=204)
    async def sessions() -> None:
        """Nothing."""

    close_gate(app, access)
    headers = [(b"host", host.encode())]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asked: Scope = {
        "type": "http", "method": "GET", "path": "/v1/sessions", "query_string": b"",
        "scheme": "http", "headers": headers, "server": ("10.1.2.3", 8000), **scope,
    }  # fmt: skip
    await app(asked, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("host", "origin", "allowed", "status"),
    [
        ("LOCALHOST:8000", None, (), 204),
        ("localhost.:8000", None, (), 204),
        ("[::1]:8000", "http://[::1]:8000", (), 204),
        ("127.8.8.8", None, (), 204),
        ("me.localhost", "http://me.localhost", (), 204),
        ("10.1.2.3:8000", "http://10.1.2.3:8000", (), 204),  # where the client has connected to
        ("10.1.2.4:8000", None, (), 403),
        ("", None, (), 403),
        ("[::1", None, (), 403),
        ("chat.example", None, ("chat.example",), 204),
        ("chat.example", "https://chat.example", ("chat.example",), 204),
        ("chat.example", "https://evil.example", ("chat.example",), 403),
        ("localhost", "http://localhost:80", (), 204),
        ("localhost", "https://localhost", (), 403),  # another server of this machine
        ("a.example", None, ("*.example",), 204),
        ("example", None, ("*.example",), 403),
        ("badexample", None, ("*.example",), 403),
        ("anything", None, ("*",), 204),
    ],
)
async def test_names_of_the_server(
    host: str, origin: str | None, allowed: tuple[str, ...], status: int
) -> None:
    assert await served_as(Access(allowed_hosts=allowed), host, origin) == status


async def test_an_origin_may_be_allowed() -> None:
    access = Access(allowed_origins=frozenset({"https://chat.example"}))
    assert await served_as(access, "localhost", "https://chat.example") == 204
    assert await served_as(access, "localhost", "https://chat.example:8443") == 403
    given = vllm_arguments("--allowed-origins", '["https://chat.example"]')
    assert Access.of_server(given).allowed_origins == {"https://chat.example"}
    assert Access.of_server(vllm_arguments()).allowed_origins == frozenset()


async def test_with_keys_names_count_only_if_some_are_given() -> None:
    keyed = Access(known(KEY))
    assert await served_as(keyed, "chat.example", "https://chat.example") == 401
    named = Access(known(KEY), allowed_hosts=("chat.example",))
    assert await served_as(named, "other.example") == 403
    assert await served_as(named, "chat.example") == 401


@pytest.mark.parametrize("origin", ["https://evil.example", "*"])
async def test_all_origins_at_once_are_not_allowed(origin: str) -> None:
    access = Access.of_server(vllm_arguments("--allowed-origins", '["*"]'))
    assert await served_as(access, "localhost", origin) == 403


async def test_no_key_is_never_a_key() -> None:
    """Even if the hash of nothing is configured."""
    assert await served_as(Access(known("")), "localhost") == 401


async def test_behind_a_proxy_the_prefix_does_not_count() -> None:
    keyed = Access(known(KEY))
    scope = {"path": "/api/health", "root_path": "/api"}
    assert await served_as(keyed, "localhost", **scope) == 404  # it is open, and there is none
    assert await served_as(keyed, "localhost", path="/api/health") == 401
    assert await served_as(keyed, "localhost", path="/dashboard.json") == 401
    assert await served_as(keyed, "localhost", path="//health") == 401


@pytest.mark.parametrize(
    "headers",
    [{"Host": "rebound.example"}, {"Origin": "https://evil.example", "Host": "localhost"}],
    ids=str,
)
def test_a_websocket_is_refused_likewise(headers: dict[str, str]) -> None:
    accepted = []

    async def speak(websocket: WebSocket) -> None:
        accepted.append(websocket.url.path)
        await websocket.accept()
        await websocket.close()

    app = FastAPI(routes=[WebSocketRoute("/v1/realtime", speak)])
    app.state.caesura_owners = Owners(has_keys=False)
    close_gate(app, Access())
    client = TestClient(app)
    session = client.websocket_connect("/v1/realtime", headers=headers)
    with pytest.raises(WebSocketDenialResponse) as refused, session:
        pass
    assert refused.value.status_code == 403
    assert not accepted
    with client.websocket_connect("/v1/realtime", headers={"Host": "localhost"}):
        assert accepted


def test_the_gate_stands_where_vllm_checks_keys_and_before_all_of_ours(
    with_key: FastAPI, without_key: FastAPI
) -> None:
    for app in (with_key, without_key):
        names = [each.cls.__name__ for each in app.user_middleware]
        assert "AuthenticationMiddleware" not in names
        assert names.index("Gate") < names.index("CORSMiddleware") < names.index("ServerTools")


@pytest.mark.parametrize(
    ("option", "variable", "keys"),
    [
        (None, None, []),
        (None, "alpha", ["alpha"]),
        (["alpha", "beta"], None, ["alpha", "beta"]),
        (["alpha"], "beta", ["alpha"]),
        ([""], None, None),
        (["alpha", " \t"], None, None),
        ([], None, None),
        (None, "", None),
        (None, "  ", None),
        (["alpha"], "", None),
    ],
)
def test_an_empty_key_is_none_of_the_keys(
    monkeypatch: pytest.MonkeyPatch,
    option: list[str] | None,
    variable: str | None,
    keys: list[str] | None,
) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    if variable is not None:
        monkeypatch.setenv("VLLM_API_KEY", variable)
    if keys is not None:
        assert given_keys(option) == keys
        return
    with pytest.raises(ConfigurationError, match="is empty"):
        given_keys(option)


@pytest.mark.parametrize(
    ("host", "uds", "local"),
    [
        ("127.0.0.1", None, True),
        ("::1", None, True),
        ("localhost", None, True),
        (None, "/run/caesura.sock", True),
        (None, None, False),
        ("", None, False),
        ("0.0.0.0", None, False),
        ("10.1.2.3", None, False),
        ("host.example", None, False),
    ],
)
def test_tools_are_not_served_to_a_network_without_a_key(
    host: str | None, uds: str | None, local: bool
) -> None:
    assert is_local(host, uds) is local
    require_closed(host, uds, has_tools=False, insecure=False)
    require_closed(host, uds, has_tools=True, insecure=True)
    if local:
        require_closed(host, uds, has_tools=True, insecure=False)
        return
    with pytest.raises(ConfigurationError, match="--api-key KEY") as refused:
        require_closed(host, uds, has_tools=True, insecure=False)
    assert "--insecure-no-key" in str(refused.value)


def test_names_that_only_look_like_this_machine() -> None:
    assert not any(map(is_loopback, ("127.0.0.1.example", "localhost.example", "0.0.0.0", "")))
