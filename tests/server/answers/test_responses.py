"""Responses with server-run tools, as OpenAI's client reads them."""

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from caesura.server.answers.response_input import (
    InputCall,
    InputMessage,
    InputResult,
    input_messages,
)
from server.served import Served, human, served
from session.workplace import tool

ADD = 'first <<add {"x": 1, "y": 2}>>\nthat is it'
TEXTS = ["heard: . first ", "heard: 3. that is it"]
EVENT = TypeAdapter(ResponseStreamEvent)
SHOWN = {"tools": "all", "show_calls": True}


def add(x: int, y: int) -> int:
    """Add."""
    return x + y


def asking(plan: Any, caesura: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "model": "demo",
        "input": plan,
        "max_output_tokens": 4000,
        "temperature": 0,
        "extra_body": {"caesura": caesura or {"tools": "all"}},
        **fields,
    }


async def streamed(server: Served, **asked: Any) -> list[Any]:
    """All events; each must be what OpenAI's own types say."""
    stream = await server.openai().responses.create(stream=True, **asked)
    read = [event async for event in stream]
    for event in read:
        EVENT.validate_python(event.model_dump(), strict=True)
    assert [event.sequence_number for event in read] == list(range(len(read)))
    return read


async def test_a_response_has_the_texts_of_all_turns(tmp_path: Path) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        response = await server.openai().responses.create(**asking(ADD))
        Response.model_validate(response.model_dump(), strict=True)
        assert [item.type for item in response.output] == ["message", "message"]
        assert response.output_text == "".join(TEXTS)
        assert response.status == "completed"
        transcript = await server.client.get(
            f"/v1/sessions/{response.caesura['session_id']}/transcript"
        )
        assert response.usage.total_tokens == len(transcript.json()["token_ids"])


async def test_events_build_the_response_that_they_end_with(tmp_path: Path) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        read = await streamed(server, **asking(ADD, SHOWN))
        kinds = [event.type for event in read]
        assert kinds[:2] == ["response.created", "response.in_progress"]
        assert kinds[-1] == "response.completed"
        response = read[-1].response
        assert [item.type for item in response.output] == [
            "message", "function_call", "function_call_output", "message"
        ]  # fmt: skip
        call, result = response.output[1:3]
        assert (call.name, result.output) == ("add", "3")
        assert call.call_id == result.call_id

        done = [event for event in read if event.type == "response.output_item.done"]
        assert [event.item.id for event in done] == [item.id for item in response.output]
        assert [event.output_index for event in done] == [0, 1, 2, 3]
        added = [event for event in read if event.type == "response.output_item.added"]
        assert [event.item.id for event in added] == [item.id for item in response.output]
        for index, text in ((0, TEXTS[0]), (3, TEXTS[1])):
            pieces = [
                event.delta
                for event in read
                if event.type == "response.output_text.delta" and event.output_index == index
            ]
            assert "".join(pieces) == text == response.output[index].content[0].text


async def test_calls_are_hidden_from_who_does_not_ask(tmp_path: Path) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        read = await streamed(server, **asking(ADD))
        assert [item.type for item in read[-1].response.output] == ["message", "message"]


async def test_openais_own_stream_helper_follows(tmp_path: Path) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        async with server.openai().responses.stream(**asking(ADD, SHOWN)) as stream:
            async for _ in stream:
                pass
            final = await stream.get_final_response()
        assert final.output_text == "".join(TEXTS)


async def test_an_output_of_full_length_is_incomplete(tmp_path: Path) -> None:
    async with served(tmp_path / "db") as server:
        short = asking("a long plan") | {"max_output_tokens": 5}
        response = await server.openai().responses.create(**short)
        assert response.status == "incomplete"
        assert response.incomplete_details.reason == "max_output_tokens"
        assert response.usage.output_tokens == 5
        assert (await streamed(server, **short))[-1].type == "response.incomplete"


async def test_a_cancelled_session_is_a_cancelled_response(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human()) as server:
        answering = asyncio.create_task(streamed(server, **asking('<<ask {"question": "well?"}>>')))
        question = await server.asked()
        await server.client.post(f"/v1/sessions/{question['session_id']}/cancel")
        last = (await answering)[-1]
        assert (last.type, last.response.status) == ("response.failed", "cancelled")


async def test_a_background_response_is_fetched_later(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human(), has_keys=True) as server:
        client, other = server.openai("anna"), server.openai("bert")
        server.client.headers["Authorization"] = "Bearer anna"
        asked = asking('<<ask {"question": "well?"}>>\nend', background=True)
        begun = await client.responses.create(**asked)
        assert begun.status == "in_progress"
        question = await server.asked()
        assert (await client.responses.retrieve(begun.id)).status == "in_progress"
        assert (await other.responses.retrieve(begun.id)).model_dump()["from"] == "vllm"
        await server.client.post(
            f"/v1/approvals/{question['id']}", json={"accepted": True, "text": "yes"}
        )
        await server.until(question["session_id"], phase="ended")
        done = await client.responses.retrieve(begun.id)
        Response.model_validate(done.model_dump(), strict=True)
        assert (done.status, done.output[-1].content[0].text) == ("completed", "heard: yes. end")


async def test_a_background_response_can_be_cancelled(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human()) as server:
        client = server.openai()
        asked = asking('<<ask {"question": "well?"}>>\nend', background=True)
        begun = await client.responses.create(**asked)
        await server.asked()
        for _ in range(2):
            assert (await client.responses.cancel(begun.id)).status == "cancelled"


async def test_a_client_that_leaves_ends_its_session(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human()) as server:
        client = server.openai()
        asked = asking('<<ask {"question": "well?"}>>\nend')
        async with await client.responses.create(stream=True, **asked) as stream:
            question = await server.asked()
            await anext(aiter(stream))
        await client.close()
        await server.until(question["session_id"], phase="ended", ending="cancelled")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"text": {"format": {"type": "json_object"}}}, "text"),
        ({"truncation": "auto"}, "truncation"),
        ({"top_p": 0.3}, "top_p"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, None),
    ],
)
async def test_what_cannot_be_honoured_is_refused(
    tmp_path: Path, fields: dict[str, Any], param: str | None
) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        with pytest.raises(openai.BadRequestError) as refused:
            await server.openai().responses.create(**(asking(ADD) | fields))
        if param is not None:
            assert refused.value.param == param
        assert server.agents.running == ()


def test_items_of_the_input_become_messages() -> None:
    items = [
        InputMessage(role="user", content="hello"),
        InputCall(type="function_call", call_id="1", name="a", arguments="{}"),
        InputCall(type="function_call", call_id="2", name="b", arguments="{}"),
        InputResult(type="function_call_output", call_id="1", output="one"),
        InputResult(type="function_call_output", call_id="2", output="two"),
    ]
    messages = input_messages("be kind", items)
    roles = [message["role"] for message in messages]
    assert roles == ["system", "user", "assistant", "tool", "tool"]
    assert [call["id"] for call in messages[2]["tool_calls"]] == ["1", "2"]
    assert messages[3] == {"role": "tool", "tool_call_id": "1", "content": "one"}
