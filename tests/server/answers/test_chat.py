"""Chat Completions with server-run tools, as OpenAI's client reads them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from server.served import JSON, Served, human, served
from session.workplace import eventually, tool

ADD = 'first <<add {"x": 1, "y": 2}>>\nthat is it'
ALL = {"tools": "all"}


def add(x: int, y: int) -> int:
    """Add."""
    return x + y


def asking(plan: str, caesura: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "model": "demo",
        "messages": [{"role": "user", "content": plan}],
        "max_tokens": 4000,
        "temperature": 0,
        "extra_body": {"caesura": caesura or ALL},
        **fields,
    }


async def chunks(server: Served, **asked: Any) -> list[ChatCompletionChunk]:
    """All chunks; each must be what OpenAI's own types say, with nothing wrong in it."""
    stream = await server.openai().chat.completions.create(stream=True, **asked)
    read = [chunk async for chunk in stream]
    for chunk in read:
        ChatCompletionChunk.model_validate(chunk.model_dump(), strict=True)
    return read


async def test_the_client_sees_one_answer_and_no_calls(tmp_path: Path) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        answer = await server.openai().chat.completions.create(**asking(ADD))
        (choice,) = answer.choices
        assert choice.message.content == "heard: . first \n\nheard: 3. that is it"
        assert choice.message.tool_calls is None
        assert choice.finish_reason == "stop"
        assert answer.model == "demo"
        assert answer.usage is not None
        session = await server.until(answer.caesura["session_id"], phase="ended")
        transcript = await server.client.get(f"/v1/sessions/{session['id']}/transcript")
        assert answer.usage.total_tokens == len(transcript.json()["token_ids"])
        assert session["ending"] == "completed"


async def test_streamed_text_is_that_of_the_whole_answer(tmp_path: Path) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        read = await chunks(server, **asking(ADD, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in read if chunk.choices)
        assert text == "heard: . first \n\nheard: 3. that is it"
        assert read[0].choices[0].delta.role == "assistant"
        finishes = [chunk.choices[0].finish_reason for chunk in read if chunk.choices]
        assert [reason for reason in finishes if reason] == ["stop"]
        assert read[-1].usage is not None
        assert read[-1].choices == []
        assert len({chunk.id for chunk in read}) == 1
        assert not any(c.choices[0].delta.tool_calls for c in read if c.choices)


async def test_calls_and_results_are_shown_to_who_asks(tmp_path: Path) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        shown = {"tools": ["add"], "show_calls": True}
        read = await chunks(server, **asking(ADD, shown))
        (call,) = [c for chunk in read for c in chunk.choices[0].delta.tool_calls or []]
        assert (call.index, call.function.name) == (0, "add")
        assert json.loads(call.function.arguments) == {"x": 1, "y": 2}
        (result,) = [
            chunk.caesura["result"]
            for chunk in read
            if "result" in (chunk.model_extra or {}).get("caesura", {})
        ]
        assert result == {
            "call_id": call.id, "name": "add", "ending": "succeeded", "content": "3"
        }  # fmt: skip
        answer = await server.openai().chat.completions.create(**asking(ADD, shown))
        assert answer.choices[0].message.tool_calls is None, "clients run what they find there"
        (told,) = answer.caesura["calls"]
        assert (told["name"], told["content"]) == ("add", "3")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"stop": ["x"]}, "stop"),
        ({"stop": "x"}, "stop"),
        ({"top_p": 0}, "top_p"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"tools": [{"type": "function", "function": {"name": "mine"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"extra_body": {"caesura": ALL, "top_k": -3}}, "top_k"),
        ({"extra_body": {"caesura": {"tools": "some"}}}, "caesura.tools"),
        ({"extra_body": {"caesura": {"tools": "all", "show": 1}}}, "caesura.show"),
        ({"extra_body": {"caesura": {"tools": ["nothing"]}}}, "caesura.tools"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
    ],
)
async def test_what_cannot_be_honoured_is_refused(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        with pytest.raises(openai.BadRequestError) as refused:
            await server.openai().chat.completions.create(**(asking(ADD) | fields))
        assert refused.value.param == param
        assert server.agents.running == ()


async def test_what_changes_nothing_is_accepted(tmp_path: Path) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        neutral = {"n": 1, "top_p": 1.0, "stop": None, "user": "me", "tool_choice": "auto"}
        answer = await server.openai().chat.completions.create(**asking("hi", **neutral))
        assert answer.choices[0].message.content == "heard: . hi"


async def test_another_model_is_not_found(tmp_path: Path) -> None:
    async with served(tmp_path / "db") as server:
        with pytest.raises(openai.NotFoundError):
            await server.openai().chat.completions.create(**(asking("hi") | {"model": "gpt"}))


async def test_an_output_of_full_length_says_so(tmp_path: Path) -> None:
    async with served(tmp_path / "db") as server:
        client = server.openai()
        short = asking("a long plan") | {"max_tokens": 5}
        answer = await client.chat.completions.create(**short)
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.completion_tokens == 5
        newer = asking("a long plan", max_completion_tokens=6)
        answer = await client.chat.completions.create(**newer)
        assert answer.usage.completion_tokens == 6


@pytest.mark.parametrize("stream", [True, False])
async def test_a_session_that_is_cancelled_is_an_error(tmp_path: Path, stream: bool) -> None:
    async with served(tmp_path / "db", human()) as server:
        asked = asking('<<ask {"question": "well?"}>>')
        answering = asyncio.create_task(
            chunks(server, **asked) if stream else server.openai().chat.completions.create(**asked)
        )
        question = await server.asked()
        await server.client.post(f"/v1/sessions/{question['session_id']}/cancel")
        with pytest.raises(openai.APIError, match="was cancelled"):
            await answering


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kept", [True, False])
async def test_a_client_that_leaves_ends_its_session_unless_it_is_stored(
    tmp_path: Path, stream: bool, kept: bool
) -> None:
    async with served(tmp_path / "db", human()) as server:
        asked = asking('<<ask {"question": "well?"}>>\nend', store=kept)
        client = server.openai()

        async def ask() -> None:
            answer = await client.chat.completions.create(**asked, stream=stream)
            if stream:
                async for _ in answer:
                    pass

        asking_now = asyncio.create_task(ask())
        question = await server.asked()
        asking_now.cancel()
        await asyncio.gather(asking_now, return_exceptions=True)
        await client.close()
        if kept:
            answer = {"accepted": True, "text": "yes"}
            await server.client.post(f"/v1/approvals/{question['id']}", json=answer)
        ending = "completed" if kept else "cancelled"
        await server.until(question["session_id"], phase="ended", ending=ending)


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages": [], "unheard_of": {"a": 1e400}, "model":  "x"}',
        b'{"caesura": {"other": 1}}',
        b'{"text": "\\"caesura\\""}',
        b'{"caesura": null}',
        b'{"caesura"',
        b'["caesura"]',
        b"",
        b"x" * 2**21,
        b'{"model": "caesura", "text": "\\"caesura\\": {}", "more": "' + b"x" * 2**21 + b'"}',
    ],
)
async def test_other_requests_reach_vllm_as_they_came(tmp_path: Path, body: bytes) -> None:
    async with served(tmp_path / "db", body_limit=8192) as server:
        for place in ("/v1/chat/completions", "/v1/responses"):
            answer = await server.client.post(place, content=body, headers=JSON)
            assert answer.json() == {"from": "vllm"}
        assert server.untouched == [body, body]


async def test_a_body_of_ours_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path / "db") as server:
        body = b'{"caesura": ' + b"[" * 5000
        answer = await server.client.post("/v1/responses", content=body, headers=JSON)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "body_too_complex"
        assert not server.untouched


async def test_a_body_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path / "db", body_limit=1024) as server:
        with pytest.raises(openai.APIStatusError) as refused:
            await server.openai().chat.completions.create(**asking("x" * 2000))
        assert refused.value.status_code == 413


async def test_sessions_of_requests_belong_to_their_key(tmp_path: Path) -> None:
    async with served(tmp_path / "db", has_keys=True) as server:
        answer = await server.openai("anna").chat.completions.create(**asking("hi"))
        place = f"/v1/sessions/{answer.caesura['session_id']}"
        for key, status in (("anna", 200), ("bert", 404)):
            seen = await server.client.get(place, headers={"Authorization": f"Bearer {key}"})
            assert seen.status_code == status


async def test_a_request_that_is_sent_again_after_a_timeout_runs_its_tools_once(
    tmp_path: Path,
) -> None:
    ran, go_on = [], asyncio.Event()

    async def pay(amount: int) -> str:
        """Pay."""
        ran.append(amount)
        await go_on.wait()
        return "paid"

    async with served(tmp_path / "db", tool(pay)) as server:
        client = server.openai()
        asked = asking('<<pay {"amount": 5}>>') | {"extra_headers": {"Idempotency-Key": "order-1"}}
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(**asked, timeout=1)
        again = [asyncio.create_task(client.chat.completions.create(**asked)) for _ in range(2)]
        await eventually(lambda: ran)
        go_on.set()
        answers = [await task for task in again]
        answers.append(await client.chat.completions.create(**asked))
        assert ran == [5]
        assert {answer.id for answer in answers} == {answers[0].id}
        assert {answer.choices[0].message.content for answer in answers} == {
            answers[0].choices[0].message.content
        }
        with pytest.raises(openai.UnprocessableEntityError):
            await client.chat.completions.create(
                **(asked | {"messages": [{"role": "user", "content": "other"}]})
            )
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(
                **(asked | {"extra_headers": {"Idempotency-Key": "x" * 256}})
            )


async def test_a_run_that_was_cancelled_is_not_made_again_by_the_client(tmp_path: Path) -> None:
    async def hang() -> str:
        """Hang."""
        await asyncio.Event().wait()
        return ""

    async with served(tmp_path / "db", tool(hang)) as server:
        client = server.openai().with_options(max_retries=2)
        asked = asyncio.create_task(client.chat.completions.create(**asking("<<hang {}>>")))
        await eventually(lambda: server.agents.running)
        (agent,) = server.agents.running
        await agent.cancel()
        with pytest.raises(openai.ConflictError) as refused:
            await asked
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert len(await server.agents.sessions("anonymous")) == 1
