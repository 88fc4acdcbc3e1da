"""What clients are answered, on a real `caesura serve` with the flags that everybody has."""

import json
from typing import Any

import pytest

from server.clients.conversations import Caller
from support.models.small import BLOCK_SIZE
from support.servers.process import RestartableServer

pytestmark = pytest.mark.engine

TEXT = "I look. \nThree essentials."
SYSTEM = "You look at things, and say what they are. " * 8


def tool(name: str) -> dict[str, Any]:
    """A tool at whose sight the model writes what `support.models.scripted` says."""
    return {"name": name, "description": "Look.", "parameters": {"type": "object"}}


def chat_tools(name: str) -> list[dict[str, Any]]:
    return [{"type": "function", "function": tool(name)}]


def response_tools(name: str) -> list[dict[str, Any]]:
    return [{"type": "function", **tool(name)}]


@pytest.fixture
def alpha(server_with_keys: RestartableServer) -> Caller:
    return Caller(server_with_keys.server.url, "alpha")


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


@pytest.mark.parametrize("stream", [False, True])
def test_text_behind_a_call_is_in_the_answer_of_a_chat(alpha: Caller, stream: bool) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": f"Look. {SYSTEM} {stream}"}]
    options = {"tools": chat_tools("look"), "temperature": 0, "max_tokens": 200}
    answer = alpha.post("/v1/chat/completions", messages=messages, stream=stream, **options)
    if stream:
        deltas = [choice["delta"] for one in events(answer.text) for choice in one["choices"]]
        content = "".join(delta.get("content") or "" for delta in deltas)
        pieces = [call for delta in deltas for call in delta.get("tool_calls") or []]
        function = {"name": "look", "arguments": ""}
        for piece in pieces:
            function["arguments"] += piece["function"].get("arguments") or ""
        call = {"id": pieces[0]["id"], "type": "function", "function": function}
        message = {"role": "assistant", "content": content, "tool_calls": [call]}
    else:
        message = answer.json()["choices"][0]["message"]
        (call,) = message["tool_calls"]
    assert message["content"] == TEXT
    result = {"role": "tool", "tool_call_id": call["id"], "content": "it"}
    after = alpha.post("/v1/chat/completions", messages=[*messages, message, result], **options)
    told = after.json()["usage"]["caesura"]
    assert told["continuation"] == "transcript"
    assert told["recomputed_tokens"] < BLOCK_SIZE


@pytest.mark.parametrize("stream", [False, True])
def test_text_behind_a_call_is_in_a_response(alpha: Caller, stream: bool) -> None:
    options = {"tools": response_tools("look"), "temperature": 0, "max_output_tokens": 200}
    answer = alpha.post("/v1/responses", input=f"Look. {SYSTEM} {stream}", stream=stream, **options)
    response = events(answer.text)[-1]["response"] if stream else answer.json()
    texts = [
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    ]
    assert "".join(texts) == TEXT
    (call,) = [item for item in response["output"] if item["type"] == "function_call"]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "it"}
    after = alpha.post(
        "/v1/responses", input=[output], previous_response_id=response["id"], **options
    ).json()
    assert after["usage"]["caesura"]["continuation"] == "transcript"
    assert after["usage"]["caesura"]["recomputed_tokens"] < BLOCK_SIZE


@pytest.mark.parametrize("option", [{"parallel_tool_calls": False}, {"truncation": "auto"}])
def test_options_that_change_nothing_keep_the_transcript(
    alpha: Caller, option: dict[str, Any]
) -> None:
    options = {"temperature": 0, "max_output_tokens": 12, **option}
    first = alpha.post("/v1/responses", input=f"{SYSTEM} {option}", **options).json()
    after = alpha.post(
        "/v1/responses", input="Go on.", previous_response_id=first["id"], **options
    ).json()
    assert after["usage"]["caesura"]["continuation"] == "transcript"


def test_a_conversation_that_was_cut_is_no_transcript(alpha: Caller) -> None:
    options = {"temperature": 0, "max_output_tokens": 12, "truncation": "auto"}
    first = alpha.post("/v1/responses", input="word " * 900, **options).json()
    assert first["usage"]["input_tokens"] < 4096, "the beginning is missing"
    after = alpha.post(
        "/v1/responses", input="Go on.", previous_response_id=first["id"], **options
    ).json()
    assert after["usage"]["caesura"]["continuation"] == "none"


@pytest.mark.parametrize("stream", [False, True])
def test_cached_tokens_are_in_the_usage_of_every_route(alpha: Caller, stream: bool) -> None:
    messages = [{"role": "user", "content": f"{SYSTEM} Cached? {stream}"}]
    limit = {"temperature": 0, "stream": stream}
    found = []
    for _ in range(2):
        chat = alpha.post(
            "/v1/chat/completions",
            messages=messages,
            max_tokens=4,
            **limit,
            **({"stream_options": {"include_usage": True}} if stream else {}),
        )
        usage = (events(chat.text)[-1] if stream else chat.json())["usage"]
        found.append(usage["prompt_tokens_details"]["cached_tokens"])
    message = alpha.post("/v1/messages", messages=messages, max_tokens=4, **limit)
    usage = message.json()["usage"] if not stream else events(message.text)[-2]["usage"]
    found.append(usage["cache_read_input_tokens"])
    response = alpha.post("/v1/responses", input=messages, max_output_tokens=4, **limit)
    told = events(response.text)[-1]["response"] if stream else response.json()
    found.append(told["usage"]["input_tokens_details"]["cached_tokens"])
    assert len({*found[1:]}) == 1
    assert found[1] > 4 * BLOCK_SIZE


def test_messages_ask_for_more_than_there_is_room_for(alpha: Caller) -> None:
    messages = [{"role": "user", "content": "Say a word."}]
    ask = {"messages": messages, "temperature": 0}
    stop = {"stop_sequences": ["</code>"], "vllm_xargs": {}}
    more = alpha.ask("/v1/messages", max_tokens=100_000, **ask, **stop)
    assert more.status_code == 200
    assert more.json()["usage"]["output_tokens"] > 1
    less = alpha.post("/v1/messages", max_tokens=3, **ask).json()
    assert less["usage"]["output_tokens"] == 3, "what fits is asked for as it is"
    assert less["stop_reason"] == "max_tokens"


def test_a_turn_that_ends_at_a_stop_string_pauses(alpha: Caller) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "Add one and two."},
    ]
    options = {"temperature": 0, "stop": ["</code>"], "max_tokens": 100}
    code = "<code>\nprint(1 + 2)\n</code>"
    first = alpha.post(
        "/v1/chat/completions",
        messages=messages,
        structured_outputs={"choice": [code + " and so on, and on, and on, for very long"]},
        **options,
    ).json()
    message = first["choices"][0]["message"]
    assert message["content"] == code.removesuffix("</code>")
    messages += [
        {"role": "assistant", "content": code},
        {"role": "user", "content": "Observation: 3"},
    ]
    told = alpha.post("/v1/chat/completions", messages=messages, **options).json()["usage"]
    assert told["caesura"]["endpoint"] == "code"
    assert told["caesura"]["held_tokens"] > 4 * BLOCK_SIZE
