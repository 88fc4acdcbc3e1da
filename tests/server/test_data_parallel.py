"""Two real engines under one server, started as one of one engine is."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from server.clients.conversations import CHAT_TOOLS, RESPONSE_TOOLS
from support.models.small import kv_bytes
from support.servers.process import Server, serving

pytestmark = pytest.mark.engine

ENGINES = 2
AGENTS = 6
TOOLS = '''\
async def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"it rains in {city}"
'''
CONFIGURATION = """\
[tools.look_up]
type = "python"
callable = "looking:get_weather"
"""


@pytest.fixture(scope="module")
def server(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "caesura.toml").write_text(CONFIGURATION)
    (folder / "looking.py").write_text(TOOLS)
    arguments = [
        *("--data-parallel-size", str(ENGINES), "--config", str(folder / "caesura.toml")),
        *("--host-memory", str(ENGINES * kv_bytes(64)), "--trace", str(folder / "trace.json")),
        *("--kv-cache-memory-bytes", str(kv_bytes(512)), "--max-model-len", "2048"),
        *("--dtype", "float32", "--enforce-eager", "--served-model-name", "demo"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        *("--logits-processors", "support.models.scripted:ScriptedToolCalls"),
        *("--additional-config", json.dumps({"caesura": {"check_integrity": True}})),
    ]
    with serving(model_path, arguments, folder / "server.log") as started:
        yield started
    traces = sorted(path.name for path in folder.glob("trace*.json"))
    assert traces == ["trace.engine1.json", "trace.json"]


async def conversation(client: openai.AsyncOpenAI, name: int) -> list[dict[str, Any]]:
    """An agent's loop by the unmodified client, without any name; the reports of its turns."""
    messages: list[Any] = [{"role": "user", "content": f"Weather and time in Berlin, {name}?"}]
    reports: list[dict[str, Any]] = []
    while True:
        answer = await client.chat.completions.create(
            model="demo", messages=messages, tools=CHAT_TOOLS, temperature=0, max_tokens=100
        )
        assert answer.usage is not None
        reports.append(answer.usage.model_dump()["caesura"])
        message = answer.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            return reports
        for call in message.tool_calls:
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "12 degrees"})


def test_no_turn_moves_and_its_context_is_there(server: Server) -> None:
    async def all_of_them() -> list[list[dict[str, Any]]]:
        client = server.client()
        return await asyncio.gather(*(conversation(client, name) for name in range(AGENTS)))

    reports = asyncio.run(all_of_them())
    assert {report["engine"] for each in reports for report in each} == set(range(ENGINES))
    returned = found = context = 0
    for each in reports:
        assert len(each) > 2, "it has called tools"
        assert len({report["engine"] for report in each}) == 1
        for report in each[1:]:
            returned += 1
            context += report["context_tokens"]
            found += report["held_tokens"] + report["loaded_tokens"]
            assert report["recomputed_tokens"] < 32, "less than a block"
    assert returned >= 2 * AGENTS
    assert found / context > 0.8, "short contexts of the smallest model"


def test_other_routes_keep_their_engine_too(server: Server) -> None:
    async def of_responses(client: openai.AsyncOpenAI, name: int) -> set[int]:
        engines, given, before = set(), f"Weather in Rome, {name}?", None
        for _ in range(3):
            answer = await client.responses.create(
                model="demo",
                input=given,
                tools=RESPONSE_TOOLS,
                previous_response_id=before,
                temperature=0,
                max_output_tokens=100,
            )
            engines.add(answer.usage.model_dump()["caesura"]["engine"])
            calls = [item for item in answer.output if item.type == "function_call"]
            if not calls:
                break
            given = [
                {"type": "function_call_output", "call_id": call.call_id, "output": "warm"}
                for call in calls
            ]
            before = answer.id
        return engines

    async def run() -> list[set[int]]:
        client = server.client()
        return await asyncio.gather(*(of_responses(client, name) for name in range(4)))

    found = asyncio.run(run())
    assert [len(engines) for engines in found] == [1] * 4


def test_server_run_sessions_are_on_both_engines_without_a_flag(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for name in range(4):
            body = {
                "messages": [{"role": "user", "content": f"Weather in Oslo, {name}?"}],
                "max_tokens": 40,
            }
            answer = http.post("/v1/sessions", json=body)
            assert answer.status_code == 201, answer.text
    for engine in range(ENGINES):
        assert server.metric("pauses", engine=str(engine)) > 0
    # Host memory is the machine's, and each engine has its share.
    tokens = {server.metric("host_tokens", engine=str(engine)) for engine in range(ENGINES)}
    assert tokens == {64 * 32}


def test_it_is_ready_and_says_what_each_engine_has_in_charge(server: Server) -> None:
    assert httpx.get(f"{server.url}/ready").status_code == 200
    for engine in range(ENGINES):
        assert server.metric("tokens_in_charge", engine=str(engine)) > 0
