"""Sockets on a real `caesura serve`, with OpenAI's client as it is: whatever comes between, the
tokens are those of one uninterrupted context, and nothing of it is computed again.

The server's chat template renders history otherwise than it was generated.
"""

import asyncio
from typing import Any

import httpx
import openai
import pytest

from server.clients.conversations import RESPONSE_TOOLS, Caller
from server.socket.test_connection import until
from support.servers.process import RestartableServer, Server

pytestmark = pytest.mark.engine

LATER = [{**RESPONSE_TOOLS[0], "async": True}]
LONG = 600
"""Tokens: more than are written while a client makes up its mind."""
STORY = {
    "model": "demo",
    "temperature": 0,
    "store": False,
    # Both are in the response, as tokens.
    "enable_response_messages": True,
}


@pytest.fixture
def server(server_with_keys: RestartableServer) -> Server:
    return server_with_keys.server


@pytest.fixture
def alpha(server: Server) -> Caller:
    return Caller(server.url, "alpha")


async def create(connection: Any, **fields: Any) -> None:
    """Ask for a response; the fields that only vLLM knows go with it."""
    await connection.send({"type": "response.create", **STORY, **fields})


def tokens(response: Any) -> tuple[list[int], list[int]]:
    """Those of a response's prompt and output."""
    asked, said = response.input_messages, response.output_messages
    return [t for m in asked for t in m["tokens"]], [t for m in said for t in m["tokens"]]


def told(response: Any) -> str:
    return response.usage.caesura["continuation"]


async def test_a_lane_stays_in_the_engine_between_its_responses(
    server: Server, alpha: Caller
) -> None:
    before: list[int] = []
    previous = None
    items: Any = "Weather and time in Bern?"
    async with server.client("alpha").responses.connect() as connection:
        for turn in range(3):
            await create(
                connection,
                input=items,
                tools=RESPONSE_TOOLS,
                max_output_tokens=100,
                previous_response_id=previous,
            )
            response = (await until(connection, "response.completed"))[-1].response
            prompt, output = tokens(response)
            if turn:
                assert told(response) == "transcript"
                assert prompt[: len(before)] == before
                cached = response.usage.input_tokens_details.cached_tokens
                assert cached == len(before) - 1, "the last token was never computed"
            before, previous = [*prompt, *output], response.id
            items = [
                {"type": "function_call_output", "call_id": item.call_id, "output": "12 degrees"}
                for item in response.output
                if item.type == "function_call"
            ]
            assert output == alpha.completed(prompt)
    assert response.output_text
    assert not items


async def test_a_steer_is_in_the_context_at_the_next_token(server: Server, alpha: Caller) -> None:
    async with server.client("alpha").responses.connect() as connection:
        await create(connection, input="Tell me a story.", max_output_tokens=LONG)
        events = await until(connection, "response.output_text.delta")
        first = events[0].response.id
        await connection.response.steer(previous_response_id=first, input="Shorter, please.")
        events = await until(connection, "response.incomplete")
        cut = events[-1].response
        assert cut.incomplete_details.reason == "steered"
        assert cut.output[-1].status == "incomplete"
        done = (await until(connection, "response.completed"))[-1].response
    before, written = tokens(cut)
    prompt, output = tokens(done)
    assert len(written) < LONG
    assert done.previous_response_id == first
    assert prompt[: len(before) + len(written)] == [*before, *written]
    text = str(alpha.post("/detokenize", tokens=prompt[len(before) + len(written) :]).json())
    assert "Shorter, please." in text
    # Where a step ended behind the last token, nobody has read that yet.
    cached = done.usage.input_tokens_details.cached_tokens
    assert len(before) + len(written) - cached in (0, 1), "nothing is computed again"
    assert len(output) == LONG, "its limit counts anew"
    assert output == alpha.completed(prompt, LONG)


async def test_results_go_into_what_is_being_written(server: Server, alpha: Caller) -> None:
    result = {"type": "function_call_output", "call_id": "call_1", "output": "12 degrees"}
    async with server.client("alpha").beta.responses.connect() as connection:
        await create(connection, input="Tell me another story.", max_output_tokens=LONG)
        events = await until(connection, "response.output_text.delta")
        first = events[0].response.id
        await connection.response.inject(response_id=first, input=[result])
        events = await until(connection, "response.completed")
    assert [e.type for e in events].count("response.inject.created") == 1
    assert not any(e.type in ("response.incomplete", "response.created") for e in events)
    end = events[-1].response
    assert end.id == first
    prompt, output = tokens(end)
    text = str(alpha.post("/detokenize", tokens=prompt).json()["prompt"])
    assert "<tool_response>12 degrees</tool_response>" in text
    assert output == alpha.completed(prompt, LONG)
    assert [item.type for item in end.output] == ["message", "message"]


@pytest.mark.parametrize("socket", [True, False])
async def test_a_result_may_come_turns_later(server: Server, alpha: Caller, socket: bool) -> None:
    client = server.client("alpha")

    async def asked(previous: Any, items: Any) -> Any:
        fields = {**STORY, "tools": LATER, "max_output_tokens": 100, "input": items}
        if socket:
            await create(connection, previous_response_id=previous and previous.id, **fields)
            return (await until(connection, "response.completed"))[-1].response
        known = [] if previous is None else history
        body = fields | {"input": [*known, *_items(items)]}
        response = openai.types.responses.Response.model_validate(
            alpha.post("/v1/responses", **body).json()
        )
        history[:] = [*body["input"], *(i.to_dict() for i in response.output)]
        return response

    history: list[Any] = []
    async with client.responses.connect() as connection:
        first = await asked(None, f"Weather and time in Basel? {socket}")
        (call,) = first.output
        assert call.async_ is True
        second = await asked(first, "Never mind for now.")
        prompt, _ = tokens(second)
        text = str(alpha.post("/detokenize", tokens=prompt).json()["prompt"])
        assert "Runs in the background" in text, "the model is told of the tool"
        assert text.count('"status": "running"') + text.count('\\"status\\"') == 1
        assert text.index("running") < text.index("Never mind")
        assert told(second) == "transcript"
        late = {"type": "function_call_output", "call_id": call.call_id, "output": "12 degrees"}
        third = await asked(second, [late, late])
        assert told(third) == "transcript"
        prompt, output = tokens(third)
        text = str(alpha.post("/detokenize", tokens=prompt).json()["prompt"])
        assert text.count("12 degrees") == 1, "a result that comes twice is shown once"
        assert text.index("Never mind") < text.index("12 degrees")
        assert output == alpha.completed(prompt)


def _items(given: Any) -> list[Any]:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


WAITING = [
    {"type": "function", "name": "look_up", "parameters": {"type": "object"}, "async": True},
    {"type": "function", "name": "wait_for_tasks", "parameters": {"type": "object"}},
]


@pytest.mark.parametrize("socket", [True, False])
async def test_a_tool_of_the_client_waits_for_its_tasks(
    server: Server, alpha: Caller, socket: bool
) -> None:
    """The client of OpenAI's guide, in short: results first, and then the tool that waits."""
    client = server.client("alpha")
    settings: Any = {"tools": WAITING, "temperature": 0, "store": False, "model": "demo"}
    extra = {"enable_response_messages": True}
    items: list[Any] = [{"role": "user", "content": f"The sky and the sea? {socket}"}]
    async with client.responses.connect() as connection:
        previous = None
        while True:
            if socket:
                new = {"input": items, "previous_response_id": previous}
                await connection.send({"type": "response.create", **settings, **extra, **new})
                response = (await until(connection, "response.completed"))[-1].response
                previous, items = response.id, []
            else:
                response = await client.responses.create(input=items, **settings, extra_body=extra)
                items += [item.to_dict() for item in response.output]
            calls = [item for item in response.output if item.type == "function_call"]
            if not calls:
                break
            assert [(call.name, call.async_) for call in calls] == [
                *(("look_up", True), ("look_up", True), ("wait_for_tasks", None))
            ]
            for call, output in zip(calls, ("blue", "green", '{"status": "done"}'), strict=True):
                result = {"type": "function_call_output", "call_id": call.call_id}
                items.append(result | {"output": output})
    prompt, output = tokens(response)
    text = str(alpha.post("/detokenize", tokens=prompt).json()["prompt"])
    assert "running" not in text.rpartition("</tools>")[2], "all of them have come"
    assert text.index(">blue<") < text.index(">green<") < text.index("done")
    assert told(response) == "transcript"
    assert output == alpha.completed(prompt)


async def test_a_call_is_done_before_the_response_is(server: Server) -> None:
    async with server.client("alpha").responses.connect() as connection:
        await create(connection, input="Weather in Chur?", tools=LATER, max_output_tokens=100)
        events = await until(connection, "response.completed")
    kinds = [event.type for event in events]
    done = kinds.index("response.output_item.done")
    assert kinds.count("response.output_item.done") == 1
    assert kinds.count("response.function_call_arguments.done") == 1
    assert kinds[done - 2] == "response.function_call_arguments.delta", "its last piece"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[done].item == events[-1].response.output[0]


async def test_lanes_run_at_the_same_time(server: Server) -> None:
    async with server.client("alpha").responses.connect() as connection:
        for lane in ("a", "b", "a"):
            await create(connection, input="Go.", max_output_tokens=40, stream_id=lane)
        ends, lanes = [], []
        async with asyncio.timeout(120):
            while len(ends) < 3:
                event = await connection.recv()
                lanes.append(event.stream_id)
                if event.type == "response.completed":
                    ends.append(event.stream_id)
    assert sorted(ends) == ["a", "a", "b"]
    first_b = lanes.index("b")
    assert first_b < lanes.index("a", first_b), "they take turns"


async def test_what_a_client_leaves_is_freed(server: Server, alpha: Caller) -> None:
    for steered in (False, True):
        async with server.client("alpha").responses.connect() as connection:
            await create(connection, input="Leave.", max_output_tokens=600)
            events = await until(connection, "response.output_text.delta")
            if steered:
                target = events[0].response.id
                await connection.response.steer(previous_response_id=target, input="Stay.")
                await until(connection, "response.created")
    assert alpha.chat([{"role": "user", "content": "Still there?"}]).status_code == 200
    assert server.process.poll() is None, "the integrity check at idle ends the server if it fails"


async def test_a_stored_response_goes_on_over_http_and_on_another_socket(server: Server) -> None:
    client = server.client("alpha")
    settings: Any = {"model": "demo", "temperature": 0, "max_output_tokens": 8}
    async with client.responses.connect() as connection:
        await connection.response.create(input="One.", **settings)
        first = (await until(connection, "response.completed"))[-1].response
        assert first.store is True
    second = await client.responses.create(input="Two.", previous_response_id=first.id, **settings)
    assert told(second) == "transcript"
    async with client.responses.connect() as connection:
        await connection.response.create(input="Three.", previous_response_id=second.id, **settings)
        third = (await until(connection, "response.completed"))[-1].response
        assert told(third) == "transcript"
        await connection.response.create(input="Four.", previous_response_id=third.id, **settings)
        fourth = (await until(connection, "response.completed"))[-1].response
    assert told(fourth) == "transcript"
    items = await client.responses.input_items.list(fourth.id, order="asc")
    said = [item.content[0].text for item in items.data if item.role == "user"]
    assert said == ["One.", "Two.", "Three.", "Four."]


async def test_another_keys_responses_are_not_found(server: Server) -> None:
    async with server.client("alpha").responses.connect() as connection:
        await connection.response.create(model="demo", input="Hi.", max_output_tokens=4)
        response = (await until(connection, "response.completed"))[-1].response
    async with server.client("beta").responses.connect() as connection:
        for previous in (response.id, "resp_none"):
            await connection.response.create(
                model="demo", input="Go on.", max_output_tokens=4, previous_response_id=previous
            )
            error = (await until(connection, "error"))[-1]
            assert (error.status, error.error.code) == (400, "previous_response_not_found")
            assert previous in error.error.message


def test_the_client_without_async_runs_a_turn(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="alpha")
    with client.responses.connect() as connection:
        connection.response.create(model="demo", input="Hello.", max_output_tokens=5)
        for event in connection:
            if event.type == "response.completed":
                break
    assert event.response.usage.output_tokens == 5


def test_without_a_key_there_is_no_socket(server: Server) -> None:
    url = f"{server.url}/v1/responses"
    upgrade = {
        **{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert httpx.get(url, headers=upgrade).status_code == 401
