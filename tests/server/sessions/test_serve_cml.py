"""`caesura serve` with the demo model that was trained for CML: all of it is real."""

import json
from collections.abc import Iterator

import httpx
import openai
import pytest

from caesura.bundled import CML_MODEL
from servers import Server, serving

MODEL = CML_MODEL

pytestmark = pytest.mark.engine

CONFIGURATION = """\
[sessions]
constrain_calls = true
[tools.stock]
type = "python"
callable = "shop:stock"
expected_seconds = 0.12
[tools.price]
type = "python"
callable = "shop:price"
expected_seconds = 0.05
"""
# Results come while the model waits, one after the other: not its skill is tested here.
TOOLS = '''\
import asyncio
from contextlib import suppress

price_called = asyncio.Event()


async def stock(item: str) -> str:
    """How many there are; known some time after the price was asked for, or after a second."""
    price_called.clear()
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            await price_called.wait()
            await asyncio.sleep(0.3)
    return "0482"


async def price(item: str) -> str:
    """What it costs."""
    price_called.set()
    await asyncio.sleep(0.8)
    return "4821"
'''
QUESTION = "Tell me the stock of K4821 and the price of B1203."
CLIENT_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"item": {"type": "string"}}},
        },
    }
    for name in ("stock", "price")
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("serve")
    (directory / "caesura.toml").write_text(CONFIGURATION)
    (directory / "shop.py").write_text(TOOLS)
    arguments = [
        *("--config", str(directory / "caesura.toml")),
        *("--kv-cache-memory-bytes", str(2**24), "--max-model-len", "512"),
        *("--enforce-eager", "--served-model-name", "demo"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "caesura_cml"),
        *("--additional-config", json.dumps({"caesura": {"check_integrity": True}})),
    ]
    with serving(str(MODEL), arguments, directory / "server.log") as server:
        yield server


def session_events(server: Server, mode: str) -> list[tuple[str, dict]]:
    asked = {
        "messages": [{"role": "user", "content": QUESTION}],
        **{"temperature": 0, "max_tokens": 200, "keep_open": False},
        **{"function_calling": mode, "stream": True},
    }
    events = []
    with httpx.stream("POST", f"{server.url}/v1/sessions", json=asked, timeout=60) as answer:
        kind = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((kind, json.loads(line.removeprefix("data: "))))
    return events


@pytest.mark.parametrize("mode", ["sync", "sync_parallel", "async"])
def test_a_session_calls_in_each_mode(server: Server, mode: str) -> None:
    events = session_events(server, mode)
    assert events[-1][1]["ending"] == "completed", events[-1]
    issued = [data["name"] for kind, data in events if kind == "call.issued"]
    assert sorted(issued) == ["price", "stock"]
    text = "".join(data["text"] for kind, data in events if kind == "output.done")
    assert "0482" in text
    assert "4821" in text
    assert "[" not in text
    places = [kind for kind, _ in events if kind in ("call.issued", "call.done")]
    if mode == "sync":
        assert places == ["call.issued", "call.done"] * 2
    else:
        assert places == ["call.issued"] * 2 + ["call.done"] * 2
    assert server.process.poll() is None, "the integrity check at idle ends the server"


def test_openais_client_gets_the_answer_with_calls_in_it(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    options = {"tools": "all", "function_calling": "async", "show_calls": True}
    answer = client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        max_tokens=200,
        extra_body={"caesura": options},
    )
    text = answer.choices[0].message.content
    assert text is not None
    assert "stock1: 0482" in text
    assert "price1: 4821" in text
    assert answer.model_extra is not None
    calls = answer.model_extra["caesura"]["calls"]
    assert [call["content"] for call in calls] == ["0482", "4821"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_runs_the_calls_itself(server: Server, stream: bool) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    asked = {
        **{"model": "demo", "tools": CLIENT_TOOLS, "temperature": 0, "max_tokens": 200},
        "extra_body": {"chat_template_kwargs": {"function_calling": "sync_parallel"}},
    }
    messages = [{"role": "user", "content": QUESTION}]
    if stream:
        with client.chat.completions.stream(messages=messages, **asked) as chunks:
            message = chunks.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(messages=messages, **asked).choices[0].message
    assert message.tool_calls is not None
    names = {call.id: call.function.name for call in message.tool_calls}
    assert names == {"stock1": "stock", "price1": "price"}, "ids are those of the model"
    results = {"stock": "0482", "price": "4821"}
    messages += [
        message.model_dump(exclude_none=True),
        *(
            {"role": "tool", "tool_call_id": call_id, "content": results[name]}
            for call_id, name in names.items()
        ),
    ]
    answer = client.chat.completions.create(messages=messages, **asked)
    text = answer.choices[0].message.content
    assert text is not None
    assert "stock1: 0482" in text
    assert "price1: 4821" in text
    assert answer.choices[0].finish_reason == "stop"
