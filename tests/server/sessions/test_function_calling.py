"""Modes of function calling over HTTP: sessions, Chat Completions and Responses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caesura.cml import Mode
from server.served import Served, body, served, streamed
from session.planned import FORMATS, call, engine
from session.workplace import tool

PLAN = f"Let me see. {call('a', 'look', x=1)}{call('b', 'look', x=2)} So |?a|?b|a: |=a|, b: |=b|."
ANSWER = "Let me see.  So a: saw 1, b: saw [END] 2."


def look(x: int) -> str:
    """Look."""
    return "saw 1" if x == 1 else "saw [END] 2"


def serving(path: Path, **options: Any):
    return served(path, tool(look), engine=engine(), **{"formats": FORMATS, **options})


async def told(server: Served, session_id: str) -> list[tuple[str, dict[str, Any]]]:
    read = await streamed(server.client, f"/v1/sessions/{session_id}/events")
    return [(kind, data) for _, kind, data in read]


@pytest.mark.parametrize("mode", [*Mode])
async def test_a_session_has_the_mode_that_it_was_made_with(tmp_path: Path, mode: Mode) -> None:
    async with serving(tmp_path / "db") as server:
        made = await server.session(PLAN, function_calling=mode, keep_open=False)
        assert (made["function_calling"], made["protocol"]) == (mode, "cml")
        events = await told(server, made["id"])
        outputs = {data["turn"]: data["text"] for kind, data in events if kind == "output.done"}
        assert "".join(outputs.values()) == ANSWER
        pieces = dict.fromkeys(outputs, "")
        for kind, data in events:
            if kind == "output.text.delta":
                pieces[data["turn"]] += data["text"]
        for turn, text in pieces.items():
            assert outputs[turn].startswith(text), "pieces may be gone, but are never others"
        session = await server.until(made["id"], phase="ended")
        assert session["output_text"] == ANSWER
        issued = {data["call_id"]: data["label"] for kind, data in events if kind == "call.issued"}
        assert sorted(issued.values()) == ["a", "b"]
        injected = [
            one for kind, data in events if kind == "interrupt.injected"
            for one in data["interrupts"]
        ]  # fmt: skip
        assert {one["call_id"]: one["id"] for one in injected} == issued
        assert any(kind == "session.trapped" for kind, _ in events)
        transcript = (await server.client.get(f"/v1/sessions/{made['id']}/transcript")).json()
    items = transcript["items"]
    assert sum(item["role"] == "tool" for item in items) == 2
    said = "".join(item["content"] for item in items if item["role"] == "assistant")
    assert said == ANSWER


async def test_a_message_steers_as_an_interrupt(tmp_path: Path) -> None:
    async with serving(tmp_path / "db") as server:
        plan = f"{call('a', 'look', x=1)}|?a|?user|heard |=user"
        made = await server.session(plan, function_calling="async", keep_open=False)
        said = await server.client.post(
            f"/v1/sessions/{made['id']}/messages", json={"content": "now"}
        )
        assert said.status_code in (202, 409)
        session = await server.until(made["id"], phase="ended")
    if said.status_code == 202:
        assert session["output_text"] in ("heard now", "")


@pytest.mark.parametrize("stream", [True, False])
async def test_chat_completions_in_a_mode_are_one_answer(tmp_path: Path, stream: bool) -> None:
    async with serving(tmp_path / "db") as server:
        options = {"tools": "all", "function_calling": "async", "show_calls": True}
        asked = body(PLAN) | {"model": "demo", "extra_body": {"caesura": options}}
        answer = await server.openai().chat.completions.create(**asked, stream=stream)
        if not stream:
            assert answer.choices[0].message.content == ANSWER
            assert [c["content"] for c in answer.caesura["calls"]] == ["saw 1", "saw [END] 2"]
            transcript = await server.client.get(
                f"/v1/sessions/{answer.caesura['session_id']}/transcript"
            )
            assert answer.usage.total_tokens == len(transcript.json()["token_ids"])
            return
        chunks = [chunk async for chunk in answer]
        deltas = [chunk.choices[0].delta for chunk in chunks]
        assert "".join(delta.content or "" for delta in deltas) == ANSWER
        names = [c.function.name for delta in deltas for c in delta.tool_calls or []]
        assert names == ["look", "look"]


@pytest.mark.parametrize("show_calls", [True, False])
async def test_a_response_in_a_mode_has_its_text_around_its_calls(
    tmp_path: Path, show_calls: bool
) -> None:
    async with serving(tmp_path / "db") as server:
        options = {"tools": "all", "function_calling": "async", "show_calls": show_calls}
        response = await server.openai().responses.create(
            model="demo", input=PLAN, temperature=0, extra_body={"caesura": options}
        )
        async with server.openai().responses.stream(
            model="demo", input=PLAN, temperature=0, extra_body={"caesura": options}
        ) as stream:
            events = [event async for event in stream]
    assert response.output_text == ANSWER
    kinds = [item.type for item in response.output]
    if show_calls:
        assert kinds[:2] == ["message", "function_call"]
        assert kinds.count("function_call") == kinds.count("function_call_output") == 2
    else:
        assert kinds == ["message"]
    final = next(e.response for e in events if e.type == "response.completed")
    assert final.output_text == ANSWER
    shown = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert shown == ANSWER


async def test_the_servers_settings_are_the_default(tmp_path: Path) -> None:
    formats = replace(FORMATS, function_calling=Mode.SYNC_PARALLEL)
    async with serving(tmp_path / "db", formats=formats) as server:
        made = await server.session("hello")
        other = await server.session("hello", function_calling="async")
    assert made["function_calling"] == "sync_parallel"
    assert other["function_calling"] == "async"


@pytest.mark.parametrize(
    ("fields", "advice"),
    [
        ({"function_calling": "async", "protocol": "cml"}, "caesura train"),
        ({"function_calling": "async", "protocol": "native"}, "another protocol"),
        ({"protocol": "futures"}, "needs function_calling"),
        ({"function_calling": "later"}, "sync_parallel"),
    ],
)
async def test_what_the_model_cannot_do_is_refused_with_advice(
    tmp_path: Path, fields: dict[str, str], advice: str
) -> None:
    async with served(tmp_path / "db", tool(look)) as server:
        answer = await server.client.post("/v1/sessions", json=body("hello", **fields))
        assert answer.status_code == 400
        assert advice in json.dumps(answer.json())
        plain = await server.session("hello", function_calling="sync")
        assert plain["protocol"] == "native", "the model's own format waits by itself"
        futures = await server.session("hello", function_calling="async")
        assert futures["protocol"] == "futures"


@pytest.mark.parametrize("route", ["sessions", "chat/completions", "responses"])
async def test_a_protocol_that_was_removed_is_refused_with_advice(
    tmp_path: Path, route: str
) -> None:
    options = {"function_calling": "async", "protocol": "prompted"}
    asked: dict[str, Any] = body("hello", **options)
    if route != "sessions":
        asked = {"model": "demo", "caesura": {"tools": "all", **options}}
        asked |= {"input": "hello"} if route == "responses" else body("hello")
    async with serving(tmp_path / "db") as server:
        answer = await server.client.post(f"/v1/{route}", json=asked)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"].endswith("protocol")
    assert "was removed" in error["message"]
    assert "protocol native" in error["message"]
    assert "caesura train" in error["message"]
