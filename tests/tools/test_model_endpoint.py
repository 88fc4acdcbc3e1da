import gzip
import json
import tracemalloc
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

FOREIGN = ("openai-", "x-internal")
received: list[dict[str, Any]] = []
failures: list[Response] = []


async def completions(request: Request) -> Response:
    sent = {name: value for name, value in request.headers.items() if name.startswith(FOREIGN)}
    received.append({"key": request.headers["authorization"], "sent": sent, **await request.json()})
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
    monkeypatch.setenv("OPENAI_ORG_ID", "mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "mine")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Internal: mine")
    async with workbench(tmp_path, model(address)) as bench:
        await bench.run("ask", '{"prompt": "hello"}')
    assert (received[-1]["key"], received[-1]["sent"]) == ("Bearer none", {})
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


def completion(finish_reason: str = "stop", **message: Any) -> JSONResponse:
    choice = {"index": 0, "message": {"role": "assistant", **message}}
    return JSONResponse({"choices": [choice | {"finish_reason": finish_reason}]})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (completion("length", content=None, reasoning="Hm"), "before it said anything"),
        (completion("length", content=" "), "before it said anything"),
        (completion(content=None, refusal="I will not."), "the model refused: I will not."),
        (completion("tool_calls", content=None), "without text (finish_reason tool_calls)"),
        (completion(content=[]), "without text"),
    ],
)
async def test_an_answer_without_text_is_a_failure_that_says_why(
    tmp_path: Path, address: str, answer: Response, said: str
) -> None:
    failures[:] = [answer]
    async with workbench(tmp_path, model(address)) as bench:
        result = await bench.run("ask", '{"prompt": "hello"}')
    assert result.ending is CallEnding.FAILED
    assert said in result.content


async def test_an_answer_that_was_cut_says_so(tmp_path: Path, address: str) -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    failures[:] = [completion("length", content=parts)]
    async with workbench(tmp_path, model(address)) as bench:
        result = await bench.run("ask", '{"prompt": "hello"}')
    assert result.content == "one two\n[The model reached its limit of tokens here.]"


async def test_a_redirect_to_another_server_does_not_get_the_prompt(
    tmp_path: Path, address: str
) -> None:
    other = address.replace("127.0.0.1", "localhost")
    failures[:] = [Response(status_code=307, headers={"location": f"{other}/chat/completions"})]
    async with workbench(tmp_path, model(address)) as bench:
        before = len(received)
        result = await bench.run("ask", '{"prompt": "confidential"}')
    assert "redirects to another one" in result.content
    assert len(received) == before + 1


async def test_a_compressed_answer_is_unpacked_as_far_as_it_is_wanted(
    tmp_path: Path, address: str
) -> None:
    packed = gzip.compress(completion(content="hello").body)
    bomb = gzip.compress(b"a" * 2**26)
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    failures[:] = [Response(packed, headers=headers), Response(bomb, headers=headers)]
    async with workbench(tmp_path, model(address)) as bench:
        assert (await bench.run("ask", '{"prompt": "hello"}')).content == "hello"
        tracemalloc.start()
        assert (await bench.run("ask", '{"prompt": "hello"}')).ending is CallEnding.FAILED
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < 2**26
