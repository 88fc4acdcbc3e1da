import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from caesura.tools import CallEnding
from support.tools.workbench import served, workbench

received: list[dict[str, Any]] = []
failures: list[Response] = []


async def completions(request: Request) -> Response:
    received.append(
        {
            "key": request.headers["authorization"],
            "headers": dict(request.headers),
            **await request.json(),
        }
    )
    if failures:
        return failures.pop(0)
    prompt = received[-1]["messages"][-1]["content"]
    message = {"role": "assistant", "content": f"You said: {prompt}"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return JSONResponse(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [] if prompt == "nothing" else [choice],
        }
    )


@pytest.fixture(scope="module")
async def address() -> AsyncIterator[str]:
    async with served(
        Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"])])
    ) as url:
        yield f"{url}/v1"


def model(base_url: str, settings: str = "") -> str:
    return f'[tools.ask]\ntype = "model"\nbase_url = "{base_url}"\nmodel = "m"\n{settings}\n'


async def test_a_prompt_is_answered(tmp_path: Path, address: str) -> None:
    settings = 'api_key = "${KEY}"\nsystem = "Be brief."\ntemperature = 0\nmax_tokens = 5'
    async with workbench(tmp_path, model(address, settings), {"KEY": "secret"}) as bench:
        result = await bench.run("ask", '{"prompt": "hello"}')
    assert result.content == "You said: hello"
    request = received[-1]
    assert request["key"] == "Bearer secret"
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert (request["temperature"], request["max_tokens"]) == (0, 5)


async def test_the_environments_own_key_goes_nowhere(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    async with workbench(tmp_path, model(address)) as bench:
        await bench.run("ask", '{"prompt": "hello"}')
    assert received[-1]["key"] == "Bearer none"
    assert "temperature" not in received[-1]


async def test_failures_have_their_status_and_are_retried(tmp_path: Path, address: str) -> None:
    busy = {"error": {"message": "busy"}}
    failures[:] = [JSONResponse(busy, 429, {"retry-after": "9"}), JSONResponse(busy, 500)]
    settings = "idempotent = true\nretries = 1"
    async with workbench(tmp_path, model(address, settings)) as bench:
        result = await bench.run("ask", '{"prompt": "hello"}')
        assert bench.clock.slept == [9]
    assert (result.ending, result.attempts) == (CallEnding.FAILED, 2)
    assert json.loads(result.content)["error"]["type"] == "http_status"
    assert "status 500" in result.content


async def test_answers_that_are_none_are_failures(tmp_path: Path, address: str) -> None:
    async with workbench(tmp_path, model(address)) as bench:
        empty = await bench.run("ask", '{"prompt": "nothing"}')
        failures[:] = [Response("not JSON", media_type="application/json")]
        broken = await bench.run("ask", '{"prompt": "hello"}')
    assert "without choices" in empty.content
    assert broken.ending is CallEnding.FAILED


async def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with workbench(tmp_path, model("http://127.0.0.1:9/v1")) as bench:
        result = await bench.run("ask", '{"prompt": "hello"}')
    assert "the model's server cannot be reached" in result.content


def answering(message: dict[str, Any], finish_reason: str = "stop") -> Response:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return JSONResponse({"choices": [choice]})


@pytest.mark.parametrize(
    ("message", "finish_reason", "told"),
    [
        ({"content": None, "reasoning": "Hm."}, "length", "reached its limit of tokens before"),
        ({"content": " "}, "length", "reached its limit of tokens before"),
        ({"content": None, "refusal": "I must not."}, "stop", "refused: I must not."),
        ({"content": "", "tool_calls": [{"id": "1"}]}, "tool_calls", "called tools instead"),
        ({"content": None}, "stop", "answer is empty"),
    ],
)
async def test_an_answer_that_says_nothing_is_a_failure(
    tmp_path: Path, address: str, message: dict[str, Any], finish_reason: str, told: str
) -> None:
    failures[:] = [answering(message, finish_reason)]
    async with workbench(tmp_path, model(address)) as bench:
        result = await bench.run("ask", '{"prompt": "hello"}')
    assert result.ending is CallEnding.FAILED
    assert told in result.content


async def test_an_answer_that_is_cut_off_says_so(tmp_path: Path, address: str) -> None:
    failures[:] = [answering({"content": "It is"}, "length")]
    async with workbench(tmp_path, model(address)) as bench:
        result = await bench.run("ask", '{"prompt": "hello"}')
    assert result.ending is CallEnding.SUCCEEDED
    assert result.content.startswith("It is\n[the answer ends here")


async def test_a_prompt_is_sent_nowhere_else_and_with_nothing_else(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: mine")
    failures[:] = [Response(status_code=307, headers={"location": f"{address}/chat/completions"})]
    before = len(received)
    async with workbench(tmp_path, model(address)) as bench:
        result = await bench.run("ask", '{"prompt": "hello"}')
    (request,) = received[before:]
    assert not {name for name in request["headers"] if "secret" in name or "openai" in name}
    assert "status 307" in result.content


@pytest.mark.parametrize(
    ("headers", "body", "told"),
    [
        ({"content-encoding": "gzip"}, b"x", "compressed answer"),
        ({}, b'{"choices": [' + b" " * (5 * 2**20), "no usable answer"),
    ],
)
async def test_an_answer_without_measure_is_not_read(
    tmp_path: Path, address: str, headers: dict[str, str], body: bytes, told: str
) -> None:
    failures[:] = [Response(body, headers=headers, media_type="application/json")]
    async with workbench(tmp_path, model(address)) as bench:
        result = await bench.run("ask", '{"prompt": "hello"}')
    assert result.ending is CallEnding.FAILED
    assert told in result.content
