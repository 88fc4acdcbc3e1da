import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from caesura.errors import ConfigurationError
from caesura.tools import CallEnding
from caesura.tools.http_client import stays
from support.tools.workbench import served, workbench

IDEMPOTENT = "idempotent = true\nretries = 3"
sent_bytes = 0
failures: list[Response] = []


async def echo(request: Request) -> Response:
    body = await request.body()
    return JSONResponse(
        {
            "method": request.method,
            "path": request.scope["path"],
            "query": request.query_params.multi_items(),
            "token": request.headers.get("x-token"),
            "cookie": request.headers.get("cookie"),
            "body": body.decode(),
        }
    )


async def flaky(request: Request) -> Response:
    return failures.pop(0) if failures else Response("fine")


async def endless(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        global sent_bytes
        while True:
            sent_bytes += 2**16
            yield b"x" * 2**16
            await asyncio.sleep(0)  # so that this loop sees that the client has gone

    return StreamingResponse(chunks(), media_type="text/plain")


async def silent(request: Request) -> Response:
    await asyncio.Event().wait()
    return Response()


async def give(request: Request) -> Response:
    match request.path_params["what"]:
        case "latin":
            return Response("é".encode("latin-1"), media_type="text/plain; charset=latin-1")
        case "charset":
            return Response("é".encode(), headers={"content-type": "text/plain; charset=zip"})
        case "broken":
            return Response(b"a\xff\0b", media_type="application/json")
        case "image":
            return Response(b"\x89PNG", media_type="image/png")
        case "gzip":
            packed = gzip.compress(b"unpacked " * 1000)
            return Response(packed, headers={"content-encoding": "gzip"})
        case "brotli":
            return Response(b"\x1f\x8b", headers={"content-encoding": "br"})
        case "no-gzip":
            return Response(b"plain", headers={"content-encoding": "gzip"})
        case "stream-of-bytes":
            return Response(b"a,b\n1,2", media_type="application/octet-stream")
        case "bytes":
            return Response(b"a\0b", media_type="application/octet-stream")
        case "echo-secret":
            return Response(f"bad key {request.headers['x-token']}", status_code=403)
        case "long-error":
            return Response("e" * 100_000, status_code=400)
    return Response(status_code=204)


async def redirect(request: Request) -> Response:
    return RedirectResponse(request.query_params["to"], int(request.query_params["status"]))


async def cookie(request: Request) -> Response:
    response = RedirectResponse("/after", 302)
    response.set_cookie("session", "1")
    return response


async def circle(request: Request) -> Response:
    return RedirectResponse("/circle", 302)


APP = Starlette(
    routes=[
        Route("/flaky", flaky, methods=["GET"]),
        Route("/endless", endless),
        Route("/silent", silent),
        Route("/give/{what}", give),
        Route("/redirect", redirect, methods=["GET", "POST"]),
        Route("/circle", circle),
        Route("/cookie", cookie),
        Route("/{rest:path}", echo, methods=["GET", "POST", "PUT", "DELETE"]),
    ]
)


@pytest.fixture(scope="module")
async def address() -> AsyncIterator[str]:
    async with served(APP) as url:
        yield url


def http(url: str, settings: str = "") -> str:
    return f"""\
[tools.web]
type = "http"
url = "{url}"
{settings}
[tools.web.parameters]
required = ["a"]
[tools.web.parameters.properties]
a = {{ type = "string" }}
b = {{ type = "integer" }}
"""


async def test_a_request_is_sent_and_its_answer_is_the_result(tmp_path: Path, address: str) -> None:
    settings = 'method = "POST"\nheaders = { X-Token = "${TOKEN}" }'
    configuration = http(f"{address}/items/{{a}}", settings)
    async with workbench(tmp_path, configuration, {"TOKEN": "secret"}) as bench:
        result = await bench.run("web", '{"a": "x y?z=1#%2e", "b": 2}')
    assert json.loads(result.content) == {
        "method": "POST",
        "path": "/items/x y?z=1#%2e",
        "query": [],
        "token": "***",
        "cookie": None,
        "body": '{"b":2}',
    }


async def test_arguments_that_the_schema_does_not_name_are_refused(
    tmp_path: Path, address: str
) -> None:
    async with workbench(tmp_path, http(f"{address}/x?q={{a}}")) as bench:
        result = await bench.run("web", '{"a": "x", "admin": "true"}')
    assert result.ending is CallEnding.INVALID
    assert "'admin' was unexpected" in result.content


async def test_a_path_value_with_a_slash_never_leaves(tmp_path: Path, address: str) -> None:
    async with workbench(tmp_path, http(f"{address}/items/{{a}}")) as bench:
        result = await bench.run("web", '{"a": "../admin"}')
        assert not bench.journal.dispatched
    assert result.ending is CallEnding.INVALID


@pytest.mark.parametrize(
    ("what", "content"),
    [
        ("latin", "é"),
        ("charset", "é"),
        ("broken", "a\ufffdb"),
        ("image", "[image/png, 4 bytes]"),
        ("nothing", ""),
        ("stream-of-bytes", "a,b\n1,2"),
        ("bytes", "[application/octet-stream, 3 bytes]"),
        ("gzip", "unpacked " * 1000),
    ],
)
async def test_any_answer_becomes_text(
    tmp_path: Path, address: str, what: str, content: str
) -> None:
    async with workbench(tmp_path, http(f"{address}/give/{{a}}")) as bench:
        result = await bench.run("web", json.dumps({"a": what}))
    assert (result.ending, result.content) == (CallEnding.SUCCEEDED, content)


async def test_a_compressed_answer_is_cut_like_any_other(tmp_path: Path, address: str) -> None:
    settings = "max_result_bytes = 1000"
    async with workbench(tmp_path, http(f"{address}/give/{{a}}", settings)) as bench:
        result = await bench.run("web", '{"a": "gzip"}')
        unknown = await bench.run("web", '{"a": "brotli"}')
        broken = await bench.run("web", '{"a": "no-gzip"}')
    assert result.cut
    assert result.content.startswith("unpacked unpacked")
    assert "a compressed answer (br)" in unknown.content
    assert broken.ending is CallEnding.FAILED


@pytest.mark.parametrize(
    ("first", "then", "is_followed"),
    [
        ("http://h/a", "https://h/a", True),
        ("http://h/a", "http://h:80/b", True),
        ("https://h/a", "http://h/a", False),
        ("http://h:8000/a", "https://h/a", False),
        ("http://h/a", "https://h:8443/a", False),
        ("http://h/a", "https://other/a", False),
    ],
)
def test_only_the_usual_change_to_https_is_followed(
    first: str, then: str, is_followed: bool
) -> None:
    assert stays(httpx.URL(first), httpx.URL(then)) is is_followed


async def test_no_result_has_a_secret_in_any_spelling(tmp_path: Path, address: str) -> None:
    configuration = http(f"{address}/items/{{a}}", 'query = { key = "${KEY}" }')
    secret = 'sk-live/ab+cd==4"2'
    async with workbench(tmp_path, configuration, {"KEY": secret}) as bench:
        result = await bench.run("web", '{"a": "x"}')
    assert result.ending is CallEnding.SUCCEEDED
    assert "***" in result.content
    assert "sk-live" not in result.content


async def test_a_failure_has_status_and_a_bounded_body_and_no_secret(
    tmp_path: Path, address: str
) -> None:
    settings = 'headers = { X-Token = "${TOKEN}" }'
    configuration = http(f"{address}/give/{{a}}", settings)
    async with workbench(tmp_path, configuration, {"TOKEN": "secret"}) as bench:
        refused = await bench.run("web", '{"a": "echo-secret"}')
        long = await bench.run("web", '{"a": "long-error"}')
    assert refused.ending is CallEnding.FAILED
    assert json.loads(refused.content)["error"] == {
        "type": "http_status",
        "message": "the tool's server answered with status 403: bad key ***",
    }
    assert len(long.content) < 5000


async def test_an_endless_answer_is_read_only_as_far_as_it_is_wanted(
    tmp_path: Path, address: str
) -> None:
    settings = "max_result_bytes = 1000"
    async with workbench(tmp_path, http(f"{address}/endless?a={{a}}", settings)) as bench:
        result = await bench.run("web", '{"a": ""}')
    assert result.cut
    assert len(result.content) == 1000
    assert sent_bytes < 2**24


async def test_a_server_that_never_answers_is_given_up(tmp_path: Path, address: str) -> None:
    settings = "timeout_seconds = 0.1"
    async with workbench(tmp_path, http(f"{address}/silent?a={{a}}", settings)) as bench:
        result = await bench.run("web", '{"a": ""}')
    assert result.ending is CallEnding.TIMED_OUT


async def test_transient_failures_are_retried_and_retry_after_is_obeyed(
    tmp_path: Path, address: str
) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    failures[:] = [
        Response(status_code=503),
        Response(status_code=429, headers={"Retry-After": "7"}),
        Response(status_code=500, headers={"Retry-After": moment}),
    ]
    async with workbench(tmp_path, http(f"{address}/flaky?a={{a}}", IDEMPOTENT)) as bench:
        result = await bench.run("web", '{"a": ""}')
        first, second, third = bench.clock.slept
    assert (result.content, result.attempts) == ("fine", 4)
    assert (first, second) == (0.5, 7)
    assert 95 < third < 101


@pytest.mark.parametrize(
    ("response", "settings"),
    [
        (Response(status_code=404), IDEMPOTENT),
        (Response(status_code=503), ""),
        (Response(status_code=503, headers={"Retry-After": "3600"}), IDEMPOTENT),
    ],
)
async def test_other_failures_are_not_retried(
    tmp_path: Path, address: str, response: Response, settings: str
) -> None:
    failures[:] = [response]
    async with workbench(tmp_path, http(f"{address}/flaky?a={{a}}", settings)) as bench:
        result = await bench.run("web", '{"a": ""}')
    assert (result.ending, result.attempts) == (CallEnding.FAILED, 1)


async def test_a_server_that_is_not_there_fails_after_its_retries(tmp_path: Path) -> None:
    async with workbench(tmp_path, http("http://127.0.0.1:9/{a}", IDEMPOTENT)) as bench:
        bench.clock.chance = 1.0
        result = await bench.run("web", '{"a": "x"}')
        assert bench.clock.slept == [0.25, 0.5, 1.0]
    assert result.attempts == 4
    message = json.loads(result.content)["error"]["message"]
    assert message == "the tool's server cannot be reached (ConnectError)"


async def test_a_redirect_to_the_same_server_is_followed(tmp_path: Path, address: str) -> None:
    url = f"{address}/redirect?to={{a}}&status=307"
    async with workbench(tmp_path, http(url, 'method = "POST"')) as bench:
        result = await bench.run("web", '{"a": "/there", "b": 3}')
    answer = json.loads(result.content)
    assert (answer["path"], answer["method"], answer["body"]) == ("/there", "POST", '{"b":3}')


async def test_a_redirect_to_another_server_is_not_followed(tmp_path: Path, address: str) -> None:
    configuration = http(f"{address}/redirect?to={{a}}&status=302")
    async with workbench(tmp_path, configuration) as bench:
        port = int(address.rpartition(":")[2])
        for target in ("http://evil.example/", f"http://localhost:{port}/", "https://127.0.0.1/"):
            result = await bench.run("web", json.dumps({"a": target}))
            assert result.ending is CallEnding.FAILED
            assert "redirects to another one" in result.content


async def test_no_cookie_is_kept_from_one_call_to_the_next(tmp_path: Path, address: str) -> None:
    async with workbench(tmp_path, http(f"{address}/cookie?a={{a}}")) as bench:
        for _ in range(2):
            answer = json.loads((await bench.run("web", '{"a": ""}')).content)
            assert (answer["path"], answer["cookie"]) == ("/after", None)


async def test_endless_redirects_end(tmp_path: Path, address: str) -> None:
    async with workbench(tmp_path, http(f"{address}/circle?a={{a}}")) as bench:
        result = await bench.run("web", '{"a": ""}')
    assert "redirects more than 5 times" in result.content


async def test_a_url_that_cannot_be_used_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"toml:3: tools.web.url: the host cannot come"):
        async with workbench(tmp_path, http("http://{a}/")):
            pass


async def test_a_schema_that_is_none_is_an_error_with_its_line(tmp_path: Path) -> None:
    text = http("http://h/").replace('"string"', '"strin"')
    with pytest.raises(ConfigurationError, match=r"toml:5: tools.web.parameters: not a JSON"):
        async with workbench(tmp_path, text):
            pass
