"""Responses with server-run tools, as OpenAI's client reads them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from caesura.server.answers.response_input import Input, input_messages
from server.served import Served, human, served
from session.workplace import tool

ADD = 'first <<add {"x": 1, "y": 2}>>\nthat is it'
TEXTS = ["heard: . first ", "heard: 3. that is it"]
INPUT: TypeAdapter[Any] = TypeAdapter(Input)
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


async def test_a_stored_response_is_streamed_from_its_beginning(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human()) as server:
        client = server.openai()
        asked = asking('<<ask {"question": "well?"}>>\nend', background=True, stream=True)
        stream = await client.responses.create(**asked)
        begun = await anext(aiter(stream))
        await stream.close()  # the client is gone; the response goes on
        question = await server.asked()
        again = await client.responses.retrieve(begun.response.id, stream=True)
        reading = asyncio.create_task(_read(again))
        await server.client.post(
            f"/v1/approvals/{question['id']}", json={"accepted": True, "text": "yes"}
        )
        for events in (
            await reading,
            await _read(await client.responses.retrieve(begun.response.id, stream=True)),
        ):
            assert [event.sequence_number for event in events] == list(range(len(events)))
            assert events[0].type == "response.created"
            assert events[-1].type == "response.completed"
            assert events[-1].response.output[-1].content[0].text == "heard: yes. end"
            assert events[-1].response.background is True
            plain = await client.responses.retrieve(begun.response.id)
            assert events[-1].response.model_dump() == plain.model_dump()


async def _read(stream: Any) -> list[Any]:
    return [event async for event in stream]


async def test_what_a_stored_response_cannot_do_is_said(tmp_path: Path) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        client = server.openai()
        response = await client.responses.create(**asking(ADD))
        assert (await client.responses.retrieve(response.id)).background is False
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.retrieve(response.id, stream=True, starting_after=4)
        assert refused.value.param == "starting_after"
        with pytest.raises(openai.APIStatusError) as kept:
            await client.responses.delete(response.id)
        assert (kept.value.status_code, kept.value.code) == (405, "not_deletable")


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
        ({"top_p": 1.3}, "top_p"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0"),
    ],
)
async def test_what_cannot_be_honoured_is_refused(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        with pytest.raises(openai.BadRequestError) as refused:
            await server.openai().responses.create(**(asking(ADD) | fields))
        assert refused.value.param == param
        assert server.agents.running == ()


def messages_of(*items: dict[str, Any]) -> list[dict[str, Any]]:
    return input_messages(None, INPUT.validate_python(list(items)))


def said(text: str, role: str = "assistant") -> dict[str, Any]:
    return {"role": role, "content": [{"type": "output_text", "text": text, "annotations": []}]}


def called(call_id: str, name: str = "a") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": "{}"}


def result(call_id: str, output: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def thought(*texts: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "reasoning_text", "text": text} for text in texts]
    return {"type": "reasoning", "id": "rs_1", "summary": [], "content": content, **more}


def test_items_of_the_input_become_messages() -> None:
    items = [said("hello", "user"), called("1"), called("2"), result("1", "one"), result("2", "2")]
    messages = input_messages("be kind", INPUT.validate_python(items))
    roles = [message["role"] for message in messages]
    assert roles == ["system", "user", "assistant", "tool", "tool"]
    assert [call["id"] for call in messages[2]["tool_calls"]] == ["1", "2"]
    assert messages[3] == {"role": "tool", "tool_call_id": "1", "content": "one"}


@pytest.mark.parametrize(
    "items",
    [
        [thought("Hm. ", "Yes."), said("I look."), called("1")],
        [said("I look."), thought("Hm. Yes."), called("1")],
        [called("1"), thought("Hm. Yes."), {"role": "assistant", "content": "I look."}],
    ],
)
def test_what_the_model_wrote_in_one_turn_is_one_message(items: list[dict[str, Any]]) -> None:
    written, returned = messages_of(*items, result("1", "one"))
    assert (written["role"], written["content"]) == ("assistant", "I look.")
    assert written["reasoning"] == "Hm. Yes."
    assert [call["id"] for call in written["tool_calls"]] == ["1"]
    assert returned["tool_call_id"] == "1"


def test_what_the_model_wrote_behind_a_result_is_a_message_of_its_own() -> None:
    messages = messages_of(called("1"), result("1", "one"), said("It is one."), said("Truly."))
    assert [message["role"] for message in messages] == ["assistant", "tool", "assistant"]
    assert messages[0]["content"] == ""
    assert messages[2] == {"role": "assistant", "content": "It is one.\n\nTruly."}


@pytest.mark.parametrize(
    "item",
    [
        thought(content=None, encrypted_content="gAAAA"),
        thought(content=None, summary=[{"type": "summary_text", "text": "It thought."}]),
        thought(),
        thought(""),
    ],
)
def test_reasoning_that_cannot_be_read_is_left_out(item: dict[str, Any]) -> None:
    assert messages_of(said("hi", "user"), item, said("hello")) == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
    ]


def test_texts_in_several_parts_stay_apart_as_in_a_chat() -> None:
    parts = [{"type": "input_text", "text": text} for text in ("one", "two")]
    texts = [{"type": "text", "text": text} for text in ("one", "two")]
    user, returned = messages_of({"role": "user", "content": parts}, result("1", parts))
    assert user["content"] == returned["content"] == texts
    assert messages_of(result("1", []), result("2", parts[:1]))[1]["content"] == "one"


@pytest.mark.parametrize("show_calls", [True, False])
async def test_an_output_is_taken_as_the_next_input(tmp_path: Path, show_calls: bool) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        client = server.openai()
        caesura = {"tools": "all", "show_calls": show_calls}
        first = await client.responses.create(**asking(ADD, caesura))
        output = [item.model_dump(exclude_none=True) for item in first.output]
        history = [{"role": "user", "content": ADD}, thought("Hm."), *output]
        again = [*history, {"role": "user", "content": "say it"}]
        second = await client.responses.create(**asking(again, caesura))
        assert second.status == "completed"
        transcript = await server.client.get(
            f"/v1/sessions/{second.caesura['session_id']}/transcript"
        )
        assert [item["role"] for item in transcript.json()["items"]] == [
            "user", "assistant", *(["tool", "assistant"] if show_calls else []), "user", "assistant"
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "param", "message"),
    [
        ([{"type": "item_reference", "id": "x"}], "input.0", "items of type message, reasoning"),
        ([result("1", [{"type": "input_image"}])], "input.0.output.0", "sessions take text only"),
        ([{"role": "user", "content": [{"type": "text"}]}], "input.0.content.0.text", "required"),
        ([{"role": "tool", "content": "x"}], "input.0.role", "'system', 'developer'"),
        ([{"type": "function_call", "name": "x"}], "input.0.call_id", "required"),
        ([7], "input.0", "items of type message, reasoning"),
        (7, "input", "valid list"),
        ([said("\ud800", "user")], "input.0.content.0.text", "text must be Unicode"),
    ],
)
async def test_an_item_that_cannot_be_taken_is_named(
    tmp_path: Path, given: Any, param: str, message: str
) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        body = {"input": given, "caesura": {"tools": "all"}}
        answer = await server.client.post("/v1/responses", content=json.dumps(body))
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert error["param"] == param
        assert message in error["message"]
