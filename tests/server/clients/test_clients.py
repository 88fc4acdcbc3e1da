"""Clients that run their own tools, on a real `caesura serve`: exact continuations, reports.

The server's chat template renders history otherwise than it was generated.
"""

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from caesura.endpoints import endpoint_name
from caesura.lab.models.noise_tokenizer import chat_template
from server.clients.conversations import (
    CHAT_TOOLS,
    RESPONSE_TOOLS,
    TOOL,
    Caller,
    answered,
    question,
    tokens_of,
)
from support.models.small import BLOCK_SIZE
from support.servers.process import RestartableServer, Server

pytestmark = pytest.mark.engine

MESSAGES_TOOLS = [
    {
        "name": TOOL["name"],
        "description": TOOL["description"],
        "input_schema": TOOL["parameters"],
    }
]


@pytest.fixture
def server(server_with_keys: RestartableServer) -> Server:
    return server_with_keys.server


@pytest.fixture
def alpha(server: Server) -> Caller:
    return Caller(server.url, "alpha")


@pytest.fixture
def beta(server: Server) -> Caller:
    return Caller(server.url, "beta")


def report(answer: dict[str, Any]) -> dict[str, Any]:
    return answer["usage"]["caesura"]


def test_a_turn_goes_on_from_the_very_tokens_of_the_one_before(alpha: Caller) -> None:
    messages, before = question("Weather and time in Berlin?"), []
    for turn in range(3):
        answer = alpha.chat(messages).json()
        choice = answer["choices"][0]
        assert choice["token_ids"] == alpha.completed(answer["prompt_token_ids"])
        if turn > 0:
            assert report(answer)["continuation"] == "transcript"
            assert answer["prompt_token_ids"][: len(before)] == before
        before = tokens_of(answer)
        messages = answered(messages, answer)
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"]


def test_nothing_of_the_history_is_computed_again(alpha: Caller) -> None:
    messages = question("Is it warm in Rome?")
    first = alpha.chat(messages).json()
    response = alpha.chat(answered(messages, first))
    second = response.json()
    told = report(second)
    assert told["endpoint"] == "get_weather"
    assert told["policy"] == "min-waste"
    assert told["disposition"] == "preserve"
    assert told["context_tokens"] == len(tokens_of(first)) - 1, "the last token was not computed"
    found = told["held_tokens"] + told["loaded_tokens"]
    assert found + told["recomputed_tokens"] == told["context_tokens"]
    assert told["recomputed_tokens"] < BLOCK_SIZE
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached > len(tokens_of(first)) - BLOCK_SIZE
    assert 0 < told["paused_seconds"] < 60
    assert told["predicted_seconds"] > 0
    assert response.headers["x-caesura-held-tokens"] == str(told["held_tokens"])
    assert second.get("kv_transfer_params") is None


def test_the_template_alone_would_have_lost_the_context(alpha: Caller, beta: Caller) -> None:
    messages = question("Does it snow in Oslo?")
    first = alpha.chat(messages).json()
    after = answered(messages, first)
    rendered = beta.chat(after).json()
    assert report(rendered) == {"continuation": "none"}, "another owner's answers are not known"
    generated = tokens_of(first)
    assert rendered["prompt_token_ids"][: len(generated)] != generated
    assert alpha.chat(after).json()["prompt_token_ids"][: len(generated)] == generated


def test_a_template_that_appends_is_used_as_it_is(alpha: Caller, beta: Caller) -> None:
    messages, appending = question("Is it hot in Cairo?"), {"chat_template": chat_template()}
    first = alpha.chat(messages, **appending).json()
    after = answered(messages, first)
    second = alpha.chat(after, **appending).json()
    assert report(second)["continuation"] == "rendered"
    assert second["prompt_token_ids"] == beta.chat(after, **appending).json()["prompt_token_ids"]


@pytest.mark.parametrize("edit", ["result of a call", "argument of a call", "question", "tools"])
def test_a_client_that_edits_its_history_gets_what_it_asked_for(
    alpha: Caller, beta: Caller, edit: str
) -> None:
    messages = question(f"Is it windy in Lisbon? {edit}")
    after = answered(messages, alpha.chat(messages).json())
    after = answered(after, alpha.chat(after).json())
    options: dict[str, Any] = {}
    if edit == "result of a call":
        after[3] = {**after[3], "content": "30 degrees"}
    elif edit == "argument of a call":
        after[2]["tool_calls"][0]["function"]["arguments"] = '{"city": "Porto"}'
    elif edit == "question":
        after[1] = {**after[1], "content": "Is it windy in Porto?"}
    else:
        options["tools"] = [*CHAT_TOOLS, *CHAT_TOOLS]
    edited, plain = (caller.chat(after, **options).json() for caller in (alpha, beta))
    if edit == "result of a call":
        # What came before it is as it was.
        assert report(edited)["continuation"] == "transcript"
        assert tokens_text(alpha, edited).count("30 degrees") == 1
    else:
        assert report(edited)["continuation"] == "none"
        assert edited["prompt_token_ids"] == plain["prompt_token_ids"]


def tokens_text(caller: Caller, answer: dict[str, Any]) -> str:
    tokens = answer["prompt_token_ids"]
    return str(caller.post("/detokenize", tokens=tokens).json()["prompt"])


def story(caller: Caller, text: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The first answer of a conversation without tools, and the messages of the next turn."""
    messages = question(text)
    first = caller.chat(messages, tools=None, max_tokens=12).json()
    assert first["choices"][0]["finish_reason"] == "length"
    return first, [*answered(messages, first), {"role": "user", "content": "Go on."}]


def test_an_answer_that_was_cut_off_goes_on(alpha: Caller) -> None:
    first, after = story(alpha, "Tell me a story.")
    second = alpha.chat(after, tools=None, max_tokens=12).json()
    assert report(second)["continuation"] == "transcript"
    before = tokens_of(first)
    assert second["prompt_token_ids"][: len(before)] == before


@pytest.mark.parametrize(
    "options",
    [
        {"n": 2, "temperature": 1},
        {"truncate_prompt_tokens": 200},
        {"echo": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_remembered_tokens_would_not_serve_is_left_to_vllm(
    alpha: Caller, beta: Caller, options: dict[str, Any]
) -> None:
    _, after = story(alpha, f"Tell me a story about {next(iter(options))}.")
    own, other = (
        caller.chat(after, **{"tools": None, "max_tokens": 12, **options}).json()
        for caller in (alpha, beta)
    )
    assert own["prompt_token_ids"] == other["prompt_token_ids"]
    assert report(own)["continuation"] == "none"


def test_an_answer_cut_by_a_stop_string_is_not_remembered(alpha: Caller) -> None:
    messages = question("Tell me another story.")
    word = alpha.chat(messages, tools=None, max_tokens=6).json()["choices"][0]["message"]["content"]
    first = alpha.chat(messages, tools=None, max_tokens=12, stop=[word.split()[3]]).json()
    assert first["choices"][0]["finish_reason"] == "stop"
    after = [*messages, first["choices"][0]["message"], {"role": "user", "content": "Go on."}]
    assert report(alpha.chat(after, tools=None).json())["continuation"] == "none"


async def streamed(client: openai.AsyncOpenAI, messages: list[Any]) -> tuple[Any, Any]:
    """The assistant's message and the usage of a streamed chat completion."""
    calls: dict[int, dict[str, Any]] = {}
    content, usage = "", None
    stream = await client.chat.completions.create(
        model="demo",
        messages=messages,
        tools=CHAT_TOOLS,
        temperature=0,
        max_tokens=100,
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            content += choice.delta.content or ""
            for part in choice.delta.tool_calls or []:
                call = calls.setdefault(part.index, {"id": part.id, "name": "", "arguments": ""})
                call["name"] += part.function.name or ""
                call["arguments"] += part.function.arguments or ""
    functions = [
        {"id": call.pop("id"), "type": "function", "function": call} for call in calls.values()
    ]
    return {"role": "assistant", "content": content, "tool_calls": functions}, usage


def test_streams_continue_and_report_in_their_usage(server: Server) -> None:
    async def run() -> None:
        client = server.client("alpha")
        messages: list[Any] = question("Weather and time in Madrid?")
        message, usage = await streamed(client, messages)
        assert usage.caesura == {"continuation": "none"}
        call = message["tool_calls"][0]
        messages += [message, {"role": "tool", "tool_call_id": call["id"], "content": "12"}]
        before = usage.total_tokens
        message, usage = await streamed(client, messages)
        assert usage.caesura["continuation"] == "transcript"
        assert usage.caesura["recomputed_tokens"] < BLOCK_SIZE
        assert usage.prompt_tokens > before
        assert message["tool_calls"][0]["function"]["name"] == "get_time"

    asyncio.run(run())


def test_clients_that_leave_midstream_leave_nothing(server: Server) -> None:
    async def run() -> None:
        client = server.client("alpha")
        for index in range(5):
            stream = await client.chat.completions.create(
                model="demo", messages=question(f"Leaving {index}"), max_tokens=600, stream=True
            )
            async for _ in stream:
                break
            await stream.close()

    asyncio.run(run())
    assert Caller(server.url, "alpha").chat(question("Still there?")).status_code == 200
    assert server.process.poll() is None, "the integrity check at idle ends the server if it fails"


@pytest.mark.parametrize("stream", [False, True])
def test_responses_continue_the_one_before_with_its_calls(server: Server, stream: bool) -> None:
    async def respond(client: openai.AsyncOpenAI, **options: Any) -> Any:
        options |= {"model": "demo", "tools": RESPONSE_TOOLS, "temperature": 0}
        if not stream:
            return await client.responses.create(**options, max_output_tokens=100)
        last = None
        async for event in await client.responses.create(
            **options, max_output_tokens=100, stream=True
        ):
            last = event
        assert last is not None
        assert last.type == "response.completed"
        return last.response

    async def run() -> None:
        client = server.client("alpha")
        response = await respond(client, input=f"Weather and time in Bonn? {stream}")
        assert response.usage.caesura == {"continuation": "none"}
        for tool in ("get_weather", "get_time"):
            (call,) = response.output
            assert call.name == tool
            before = response.usage.total_tokens
            output = {"type": "function_call_output", "call_id": call.call_id, "output": "12"}
            response = await respond(client, input=[output], previous_response_id=response.id)
            told = response.usage.caesura
            assert told["continuation"] == "transcript"
            assert told["endpoint"] == tool
            assert told["recomputed_tokens"] < BLOCK_SIZE
            assert response.usage.input_tokens > before, "its call is part of the context"
        assert response.output_text

    asyncio.run(run())


def test_responses_continue_from_their_items_sent_again(alpha: Caller, beta: Caller) -> None:
    options = {"tools": RESPONSE_TOOLS, "temperature": 0, "max_output_tokens": 100}
    items: list[Any] = [{"role": "user", "content": "Weather in Kiel?"}]
    first = alpha.post("/v1/responses", input=items, **options).json()
    (call,) = first["output"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "12"}
    items += [call, result]
    assert report(beta.post("/v1/responses", input=items, **options).json()) == {
        "continuation": "none"
    }
    second = alpha.post("/v1/responses", input=items, **options)
    assert report(second.json())["continuation"] == "transcript"
    assert second.headers["x-caesura-continuation"] == "transcript"


@pytest.mark.parametrize("stream", [False, True])
def test_messages_continue_from_their_tokens(alpha: Caller, stream: bool) -> None:
    options = {"tools": MESSAGES_TOOLS, "max_tokens": 100, "temperature": 0, "stream": stream}
    messages: list[Any] = [{"role": "user", "content": f"Weather and time in Graz? {stream}"}]
    for continuation in ("none", "transcript", "transcript"):
        response = alpha.post("/v1/messages", messages=messages, **options)
        assert response.headers["x-caesura-continuation"] == continuation
        content = _streamed_content(response.text) if stream else response.json()["content"]
        results = [
            {"type": "tool_result", "tool_use_id": block["id"], "content": "12 degrees"}
            for block in content
            if block["type"] == "tool_use"
        ]
        messages += [
            {"role": "assistant", "content": content},
            {"role": "user", "content": results},
        ]
    assert not results, "the agent is done"


def _streamed_content(text: str) -> list[dict[str, Any]]:
    """The content blocks of a stream of the Messages API."""
    blocks: list[dict[str, Any]] = []
    arguments = ""
    for line in text.splitlines():
        event = json.loads(line[6:]) if line.startswith("data: {") else {"type": "none"}
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"])
            arguments = ""
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            blocks[-1]["text"] = blocks[-1].get("text", "") + delta.get("text", "")
            arguments += delta.get("partial_json", "")
        elif event["type"] == "content_block_stop" and blocks[-1]["type"] == "tool_use":
            blocks[-1]["input"] = json.loads(arguments)
            blocks[-1].pop("text", None)
    return blocks


@pytest.mark.parametrize("name", ["shell|exec", "a\\ud800b", "查询天气", "x" * 100])
def test_no_name_that_a_model_writes_ends_the_server(
    server: Server, alpha: Caller, name: str
) -> None:
    call = f'<tool_call>\n{{"name": "{name}", "arguments": {{}}}}\n</tool_call>'
    # The script of calls leaves prompts without tools alone.
    written = alpha.post(
        "/v1/completions", prompt="Call.", max_tokens=300, structured_outputs={"choice": [call]}
    )
    assert written.json()["choices"][0]["text"] == call
    said = alpha.post("/v1/completions", prompt="Hi.", vllm_xargs={"caesura_endpoint": name})
    assert said.json()["choices"]
    assert alpha.chat(question("And now?")).json()["choices"]
    assert httpx.get(f"{server.url}/health").status_code == 200
    headers = {"Authorization": "Bearer alpha"}
    shown = httpx.get(f"{server.url}/metrics", headers=headers).text
    for text in (name, json.loads(f'"{name}"')):
        assert f'endpoint="{endpoint_name(text)}"' in shown


def test_other_routes_are_as_in_vllm(alpha: Caller) -> None:
    response = alpha.post("/v1/completions", prompt="Once upon a time", max_tokens=4)
    assert not any(name.startswith("x-caesura") for name in response.headers)
    assert response.json().get("kv_transfer_params") is None
    assert "caesura" not in response.json()["usage"]
