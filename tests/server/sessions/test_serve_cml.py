"""`caesura serve` with the demo model that was trained for CML: all of it is real."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from caesura.bundled import CML_MODEL
from server.socket.test_connection import until
from support.servers.process import Server, serving
from support.waiting import HANG_SECONDS

MODEL = CML_MODEL
EXAMPLE = Path(__file__).parents[3] / "examples" / "async_tools.py"

pytestmark = pytest.mark.engine

CONFIGURATION = """\
[sessions]
default_tools = "all"
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
# Both have their results from the test: it knows when the model waits.
TOOLS = '''\
import asyncio


async def stock(item: str) -> str:
    """How many there are."""
    return await told("stock")


async def price(item: str) -> str:
    """What it costs."""
    return await told("price")


async def told(name: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(name.encode() + b"\\n")
    return (await reader.read()).decode()
'''
RESULTS = {"stock": "0482", "price": "4821"}
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


class Shop:
    """Where calls of the tools wait for their results.

    Attributes:
        port: where it listens.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(60)
        self._waiting: dict[str, socket.socket] = {}
        self.port = self._listener.getsockname()[1]

    def wait_for(self, name: str) -> socket.socket:
        """Until the tool is called."""
        while name not in self._waiting:
            connection, _ = self._listener.accept()
            with connection.makefile() as lines:
                self._waiting[lines.readline().strip()] = connection
        return self._waiting[name]

    def answer(self, name: str) -> None:
        """Give the call of a tool its result."""
        with self.wait_for(name) as connection:
            connection.sendall(RESULTS[name].encode())
        del self._waiting[name]


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("serve")
    (directory / "caesura.toml").write_text(CONFIGURATION)
    (directory / "shop.py").write_text(TOOLS.replace("PORT", str(shop.port)))
    arguments = [
        *("--config", str(directory / "caesura.toml")),
        *("--kv-cache-memory-bytes", str(2**24), "--max-model-len", "512"),
        *("--enforce-eager", "--served-model-name", "demo"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "caesura_cml"),
        *("--additional-config", json.dumps({"caesura": {"check_integrity": True}})),
    ]
    with serving(str(MODEL), arguments, directory / "server.log") as server:
        yield server


def answered(shop: Shop, lines: Iterator[str], mode: str) -> list[tuple[str, dict]]:
    """The events of a session, whose calls have their results whenever the model waits for them:
    one after the other, where it waits for any."""
    events, names, kind = [], {}, ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = json.loads(line.removeprefix("data: "))
            events.append((kind, data))
            if kind == "call.issued":
                names[data["call_id"]] = data["name"]
            elif kind == "session.trapped":
                for call_id in data["call_ids"][: 1 if mode == "async" else None]:
                    shop.answer(names[call_id])
    return events


@pytest.mark.parametrize("mode", ["sync", "sync_parallel", "async"])
def test_a_session_calls_in_each_mode(server: Server, shop: Shop, mode: str) -> None:
    asked = {
        "messages": [{"role": "user", "content": QUESTION}],
        **{"temperature": 0, "max_tokens": 200, "keep_open": False},
        **{"function_calling": mode, "stream": True},
    }
    with httpx.stream("POST", f"{server.url}/v1/sessions", json=asked, timeout=60) as answer:
        events = answered(shop, answer.iter_lines(), mode)
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


def test_openais_client_gets_the_answer_with_calls_in_it(server: Server, shop: Shop) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    options = {"tools": "all", "function_calling": "async", "show_calls": True}
    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(
            client.chat.completions.create,
            model="demo",
            messages=[{"role": "user", "content": QUESTION}],
            temperature=0,
            max_tokens=200,
            extra_body={"caesura": options},
        )
        shop.wait_for("stock")
        (session,) = httpx.get(f"{server.url}/v1/sessions?limit=1").json()["data"]
        place = f"{server.url}/v1/sessions/{session['id']}/events"
        with httpx.stream("GET", place, timeout=60) as events:
            answered(shop, events.iter_lines(), "async")
        answer = answering.result(60)
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
    messages += [
        message.model_dump(exclude_none=True),
        *(
            {"role": "tool", "tool_call_id": call_id, "content": RESULTS[name]}
            for call_id, name in names.items()
        ),
    ]
    answer = client.chat.completions.create(messages=messages, **asked)
    text = answer.choices[0].message.content
    assert text is not None
    assert "stock1: 0482" in text
    assert "price1: 4821" in text
    assert answer.choices[0].finish_reason == "stop"


LATE_TOOLS = [{"type": "function", **tool["function"], "async": True} for tool in CLIENT_TOOLS]


@pytest.mark.parametrize("stream", [True, False])
def test_results_may_come_one_by_one_and_the_model_reads_them_in_its_turn(
    server: Server, stream: bool
) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    items: list[Any] = [{"role": "user", "content": QUESTION}]

    def answer() -> Any:
        asked = {"model": "demo", "tools": LATE_TOOLS, "temperature": 0, "max_output_tokens": 200}
        if stream:
            with client.responses.stream(input=items, **asked) as events:
                response = events.get_final_response()
        else:
            response = client.responses.create(input=items, **asked)
        items.extend(item.to_dict() for item in response.output)
        return response

    calls = [item for item in answer().output if item.type == "function_call"]
    assert [call.call_id for call in calls] == ["stock1", "price1"], "it goes on behind a call"
    assert all(call.async_ is True for call in calls)
    said = ""
    for name in ("stock", "price"):
        output = {"type": "function_call_output", "call_id": f"{name}1", "output": RESULTS[name]}
        items.append(output)
        response = answer()
        assert response.usage.caesura["continuation"] == "transcript"
        said += response.output_text
    assert "stock1: 0482" in said
    assert "price1: 4821" in said


def test_the_example_answers_its_question(server: Server) -> None:
    command = [sys.executable, str(EXAMPLE), "--url", server.url]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, check=True)
    assert "stock1: 0482" in ran.stdout
    assert "price1: 4821" in ran.stdout


async def test_results_go_into_the_turn_while_it_is_written(server: Server) -> None:
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")
    asked = {"model": "demo", "tools": LATE_TOOLS, "temperature": 0, "store": False}
    request: Any = {"type": "response.create", "max_output_tokens": 200, **asked}
    request |= {"enable_response_messages": True}
    async with client.beta.responses.connect() as connection:
        await connection.send(request | {"input": QUESTION})
        events = await until(connection, "response.output_text.delta")
        done = [event.item for event in events if event.type == "response.output_item.done"]
        current, said = events[0].response.id, ""
        for call in done:
            result = {"type": "function_call_output", "call_id": call.call_id}
            result |= {"output": RESULTS[call.name]}
            await connection.response.inject(response_id=current, input=[result])
            event = await connection.recv()
            while event.type not in ("response.inject.created", "response.inject.failed"):
                event = await connection.recv()
            if event.type == "response.inject.failed":  # it had stopped for it before
                assert event.error.code == "response_already_completed"
                more = {"input": [result], "previous_response_id": current}
                await connection.send(request | more)
                current = (await until(connection, "response.created"))[-1].response.id
        event = (await until(connection, "response.completed"))[-1]
    response = event.response
    prompt = [token for message in response.input_messages for token in message["tokens"]]
    output = [token for message in response.output_messages for token in message["tokens"]]
    asked = {"model": "demo", "temperature": 0, "max_tokens": 200, "return_token_ids": True}
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        whole = {"model": "demo", "tokens": [*prompt, *output]}
        said = (await http.post("/detokenize", json=whole)).json()["prompt"]
        plain = (await http.post("/v1/completions", json={**asked, "prompt": prompt})).json()
    assert "[INTR]stock1[HEAD]0482[END]" in said
    assert said.count("<|async|>") == 1, "it is one turn of the model"
    assert "stock1: 0482" in said
    assert output == plain["choices"][0]["token_ids"][: len(output)]


async def test_a_socket_has_the_tools_of_the_server_too(server: Server, shop: Shop) -> None:
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")
    ours = {"tools": "all", "function_calling": "async", "show_calls": True}
    request: Any = {"type": "response.create", "model": "demo", "input": QUESTION, "caesura": ours}
    async with client.responses.connect() as connection:
        await connection.send(request | {"temperature": 0, "max_output_tokens": 200})
        for name in ("stock", "price"):
            await asyncio.to_thread(shop.answer, name)
        events = await until(connection, "response.completed")
        response = events[-1].response
        assert "stock1: 0482" in response.output_text
        await connection.response.steer(previous_response_id=response.id, input="And?")
        (failed,) = await until(connection, "response.steer.failed")
        assert failed.error.code == "response_already_completed"


def test_a_clients_grammar_and_those_of_calls_are_made_side_by_side(
    server: Server, shop: Shop
) -> None:
    """An engine has one backend of grammars, whoever comes first."""
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)

    def chosen() -> str | None:
        answer = client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=20,
            extra_body={"structured_outputs": {"choice": ["left", "right"]}},
        )
        return answer.choices[0].message.content

    assert chosen() in ("left", "right")
    test_a_session_calls_in_each_mode(server, shop, "sync")
    assert chosen() in ("left", "right")
