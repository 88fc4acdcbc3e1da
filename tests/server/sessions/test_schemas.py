"""What all routes that make sessions take of a request, and how they refuse the rest."""

import json
from pathlib import Path
from typing import Any

import pytest

from server.served import Served, human, served

USER = {"role": "user", "content": "hi"}
CALL = {"id": "c", "type": "function", "function": {"name": "ask", "arguments": "{}"}}
TOOLS = {"tools": "all"}
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (
        "/v1/chat/completions",
        {"messages": [USER], "caesura": TOOLS, "max_tokens": 50, "temperature": 0},
    ),
    "responses": (
        "/v1/responses",
        {"input": "hi", "caesura": TOOLS, "max_output_tokens": 50, "temperature": 0},
    ),
    "sessions": (
        "/v1/sessions",
        {"messages": [USER], "keep_open": False, "max_tokens": 50, "temperature": 0},
    ),
}
DEEP = json.loads("[" * 900 + "]" * 900)

Told = tuple[int, str | None]
OK: Told = (200, None)


async def told(server: Served, route: str, fields: dict[str, Any]) -> Told:
    """The status, and the field that is wrong."""
    path, body = ROUTES[route]
    answer = await server.client.post(
        path,
        content=json.dumps({**body, **fields}),
        headers={"Content-Type": "application/json"},
    )
    if answer.status_code in (200, 201):
        return OK
    error = answer.json()["error"]
    assert 0 < len(error["message"]) < 500
    return answer.status_code, error["param"]


def refused(param: str | None, status: int = 400) -> Told:
    return status, param


@pytest.mark.parametrize("route", ROUTES)
async def test_numbers_are_what_they_are_or_refused_by_name(tmp_path: Path, route: str) -> None:
    longest = "max_output_tokens" if route == "responses" else "max_tokens"
    cases: list[tuple[dict[str, Any], Told]] = [
        *(({longest: value}, OK) for value in (1, 50.0, None)),
        *(({longest: value}, refused(longest)) for value in (0, -1, 10**30, 1.5, "x", [])),
        *(({longest: value}, refused(longest)) for value in (float("nan"), float("inf"))),
        *(({"temperature": value}, OK) for value in (0, 0.5, 2, None)),
        *(({"temperature": value}, refused("temperature")) for value in (-1, 2.1, 10**400, "x")),
        ({"temperature": float("nan")}, refused("temperature")),
        ({"unknown": 1}, refused("unknown")),
        ({"unknown": DEEP}, refused(None)),
        ({"metadata": None, "stream": None}, OK),
        ({"metadata": {"a": 1}}, refused("metadata.a")),
        ({"metadata": {"a": "\ud800"}}, refused("metadata.a")),
    ]
    if route != "responses":
        cases += [({"seed": value}, OK) for value in (0, -1, 2**63 - 1, None)]
        cases += [({"seed": value}, refused("seed")) for value in (2**63, -(2**64), 0.5)]
    if route != "sessions":
        tools = "caesura.tools"
        cases += [
            ({"n": None, "top_p": None, "stop": None, "tools": None, "user": None}, OK),
            ({"n": 2}, refused("n")),
            ({"n": 0}, refused("n")),
            ({"caesura": {**TOOLS, "show_calls": None}}, OK),
            ({"caesura": {"tools": ["\ud800"]}}, refused(f"{tools}.0")),
            ({"caesura": {"tools": ["ask", "n" * 100_000]}}, refused(tools)),
            ({"stream_options": {"include_obfuscation": None}, "stream": True}, OK),
        ]
    if route == "chat":
        cases += [({"stop": stop}, refused("stop")) for stop in ("", ["a"] * 5, "x")]
        cases += [({"stop": []}, OK)]
    if route == "sessions":
        cases += [({"tools": ["n" * 100_000]}, refused("tools")), ({"tools": None}, OK)]
        cases += [({name: None}, OK) for name in ("max_turns", "max_pending_calls", "keep_open")]
    async with served(tmp_path / "db", human()) as server:
        for fields, expected in cases:
            found = await told(server, route, fields)
            if expected == refused(None):  # a field that cannot be named in short
                found = (found[0], None)
            assert found == expected, fields


@pytest.mark.parametrize("route", ["chat", "sessions"])
async def test_messages_are_taken_in_all_spellings_of_the_same(tmp_path: Path, route: str) -> None:
    nothing: list[dict[str, Any]] = [{}, {"content": None}, {"content": ""}, {"content": []}]
    taken: list[list[dict[str, Any]]] = [
        *([USER, {"role": "assistant", **said}, USER] for said in nothing),
        *([USER, {"role": "assistant", "tool_calls": [CALL], **said}, USER] for said in nothing),
        [USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, USER],
        [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        [{"role": "user", "content": ""}],
        [USER | {"name": "n" * 100_000}],
        # Ids given twice, a result without a call, results in another order.
        [
            USER,
            {"role": "assistant", "tool_calls": [CALL, CALL, CALL | {"id": "d"}]},
            {"role": "tool", "tool_call_id": "d", "content": "x"},
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "x"}]},
            {"role": "tool", "tool_call_id": "z", "content": "x"},
            {"role": "tool", "content": "x"},
            USER,
        ],
    ]
    wrong: list[tuple[list[Any], str]] = [
        ([], "messages"),
        ([{}], "messages.0.role"),
        ([USER, 7], "messages.1"),
        ([{"role": "user"}], "messages.0"),
        ([{"role": "tool", "content": None}], "messages.0"),
        ([{"role": "x", "content": "a"}], "messages.0.role"),
        ([{"role": "user", "content": 7}], "messages.0.content"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages.0.content.0"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages.0.content.0.text"),
        ([{"role": "user", "content": "\ud800"}], "messages.0.content"),
        ([USER | {"own": ["\ud800"]}], "messages.0.own.0"),
        ([USER | {"tool_calls": [CALL]}], "messages.0"),
        (
            [{"role": "assistant", "tool_calls": [{"id": "c"}]}],
            "messages.0.tool_calls.0.function",
        ),
        (
            [{"role": "assistant", "tool_calls": [CALL | {"id": "\udfff"}]}],
            "messages.0.tool_calls.0.id",
        ),
    ]
    async with served(tmp_path / "db", human()) as server:
        for messages in taken:
            assert await told(server, route, {"messages": messages}) == OK, messages
        for messages, param in wrong:
            assert await told(server, route, {"messages": messages}) == refused(param), messages
