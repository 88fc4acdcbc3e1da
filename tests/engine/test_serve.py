"""`caesura serve` with the real `openai` package: clients that know nothing of pauses."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from .conftest import kv_bytes

pytestmark = pytest.mark.engine

TESTS = Path(__file__).parents[1]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": text,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    for name, text in (("get_weather", "The weather in a city."), ("get_time", "Its local time."))
]


class Server:
    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    def client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric over the label sets that match."""
        total = 0.0
        for line in httpx.get(f"{self.url}/metrics").text.splitlines():
            match = re.match(rf"caesura:{name}(?:_total)?\{{(.*)\}} (\S+)$", line)
            if match and all(f'{key}="{value}"' in match[1] for key, value in labels.items()):
                total += float(match[2])
        return total

    def wait_for(self, name: str, value: float, **labels: str) -> float:
        """Metrics travel with engine steps: poll until the value is there."""
        deadline = time.monotonic() + 20
        while (now := self.metric(name, **labels)) != value and time.monotonic() < deadline:
            time.sleep(0.1)
        return now


@pytest.fixture(scope="module")
def server(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    log_path = tmp_path_factory.mktemp("serve") / "server.log"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    }
    command = [sys.executable, "-m", "caesura.cli", "serve", model_path]
    command += ["--policy", "swap", "--host-memory", str(kv_bytes(1024))]
    command += ["--port", str(port), "--host", "127.0.0.1", "--dtype", "float32"]
    command += ["--kv-cache-memory-bytes", str(kv_bytes(64)), "--max-model-len", "1536"]
    command += ["--enforce-eager", "--served-model-name", "demo"]
    command += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    command += ["--logits-processors", "scripted_model:ScriptedToolCalls"]
    command += ["--additional-config", json.dumps({"caesura": {"check_integrity": True}})]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    running = Server(process, port)
    deadline = time.monotonic() + 240
    while True:
        try:
            if httpx.get(f"{running.url}/health").status_code == 200:
                break
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the server did not start:\n{log_path.read_text()[-4000:]}")
        time.sleep(0.5)
    yield running
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()


async def agent(client: openai.AsyncOpenAI, question: str, stream: bool) -> list[str]:
    """An ordinary agent loop: call the model, run its tools, send everything back."""
    messages: list[dict[str, object]] = [{"role": "user", "content": question}]
    called: list[str] = []
    for _ in range(5):
        if stream:
            message = await _streamed(client, messages)
        else:
            answer = await client.chat.completions.create(
                model="demo", messages=messages, tools=TOOLS, temperature=0, max_tokens=200
            )
            message = answer.choices[0].message.model_dump(exclude_none=True)
        messages.append(message)
        if not message.get("tool_calls"):
            assert message["content"]
            return called
        for call in message["tool_calls"]:
            called.append(call["function"]["name"])
            await asyncio.sleep(0.01)
            messages.append(
                {"role": "tool", "tool_call_id": call["id"], "content": f"{len(called)} degrees"}
            )
    raise AssertionError("the agent did not come to an end")


async def _streamed(client, messages):
    content, calls = "", {}
    stream = await client.chat.completions.create(
        model="demo", messages=messages, tools=TOOLS, temperature=0, max_tokens=200, stream=True
    )
    async for chunk in stream:
        delta = chunk.choices[0].delta
        content += delta.content or ""
        for part in delta.tool_calls or []:
            call = calls.setdefault(part.index, {"id": part.id, "name": "", "arguments": ""})
            call["name"] += part.function.name or ""
            call["arguments"] += part.function.arguments or ""
    tool_calls = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"]},
        }
        for call in calls.values()
    ]
    message = {"role": "assistant", "content": content}
    return message | ({"tool_calls": tool_calls} if tool_calls else {})


def test_unmodified_agents_claim_their_paused_contexts(server: Server) -> None:
    async def run() -> list[list[str]]:
        client = server.client()
        questions = [f"Question {index}: weather and time in Berlin?" for index in range(20)]
        return await asyncio.gather(
            *(agent(client, text, stream=index % 2 == 0) for index, text in enumerate(questions))
        )

    assert asyncio.run(run()) == [["get_weather", "get_time"]] * 20
    for tool in ("get_weather", "get_time"):
        assert server.wait_for("pauses", 20, endpoint=tool) == 20
        assert server.wait_for("pause_endings", 20, endpoint=tool, ending="resumed") == 20
    context_tokens = server.metric("held_tokens") + server.metric("loaded_tokens")
    recomputed = server.metric("recomputed_tokens")
    assert recomputed < context_tokens, "most of each paused context is found again"


def test_session_id_makes_a_plain_completion_a_pause(server: Server) -> None:
    async def run() -> None:
        client = server.client()
        headers = {"X-Session-ID": "conversation-1"}
        prompt = "tell me a story " * 10
        first = await client.completions.create(
            model="demo", prompt=prompt, max_tokens=40, temperature=0, extra_headers=headers
        )
        await client.completions.create(
            model="demo",
            prompt=prompt + first.choices[0].text + " and then?",
            max_tokens=20,
            temperature=0,
            extra_headers=headers,
        )

    before = server.metric("pause_endings", endpoint="client", ending="resumed")
    asyncio.run(run())
    assert server.wait_for("pause_endings", before + 1, endpoint="client", ending="resumed")


def test_clients_that_leave_take_nothing_along(server: Server) -> None:
    async def leave_midstream(client: openai.AsyncOpenAI, index: int) -> None:
        stream = await client.completions.create(
            model="demo", prompt=f"count up {index} " * 8, max_tokens=600, stream=True
        )
        async for _ in stream:
            break
        await stream.close()

    async def leave_between_turns(client: openai.AsyncOpenAI, index: int) -> None:
        await client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": f"leaving {index}"}],
            tools=TOOLS,
            temperature=0,
            max_tokens=200,
        )

    async def run() -> None:
        client = server.client()
        await asyncio.gather(*(leave_midstream(client, index) for index in range(10)))
        await asyncio.gather(*(leave_between_turns(client, index) for index in range(10)))

    paused_before = server.metric("pauses_now")
    asyncio.run(run())
    # Ten left between turns: their pauses wait, but the memory is anyone's (soft holds).
    assert server.wait_for("pauses_now", paused_before + 10) == paused_before + 10
    assert server.wait_for("holding_now", 0) == 0, "their contexts are in host memory now"

    async def big() -> None:
        client = server.client()
        text = "all the memory there is " * 50
        await asyncio.gather(
            *(
                client.completions.create(model="demo", prompt=f"{index}" + text, max_tokens=8)
                for index in range(3)
            )
        )

    asyncio.run(big())
    assert server.process.poll() is None, "the integrity check at idle ends the server if it fails"
