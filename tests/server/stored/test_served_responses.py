"""Responses on a real `caesura serve`, without a setting: kept, continued, in the background."""

import asyncio
from typing import Any

import httpx
import openai
import pytest

from server.clients.conversations import RESPONSE_TOOLS, Caller
from support.models.small import BLOCK_SIZE
from support.servers.process import RestartableServer

pytestmark = pytest.mark.engine

OPTIONS: dict[str, Any] = {
    "model": "demo",
    "tools": RESPONSE_TOOLS,
    "temperature": 0,
    "max_output_tokens": 100,
}


@pytest.fixture
def alpha(server_with_keys: RestartableServer) -> Caller:
    return Caller(server_with_keys.server.url, "alpha")


@pytest.fixture
def beta(server_with_keys: RestartableServer) -> Caller:
    return Caller(server_with_keys.server.url, "beta")


def result_of(response: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "12"}
        for item in response["output"]
        if item["type"] == "function_call"
    ]


def respond(caller: Caller, given: Any, **options: Any) -> httpx.Response:
    return caller.ask("/v1/responses", input=given, **{**OPTIONS, **options})


def test_a_conversation_goes_on_after_a_restart(
    server_with_keys: RestartableServer, alpha: Caller
) -> None:
    first = respond(alpha, "Weather and time in Ulm?").json()
    assert first["store"] is True
    server_with_keys.stop()
    server_with_keys.start()
    second = respond(alpha, result_of(first), previous_response_id=first["id"]).json()
    assert second["output"][0]["name"] == "get_time"
    assert second["previous_response_id"] == first["id"]
    assert second["usage"]["input_tokens"] > first["usage"]["total_tokens"]


def test_an_unknown_response_is_as_one_of_another_owner(alpha: Caller, beta: Caller) -> None:
    first = respond(alpha, "Weather in Trier?").json()
    told = []
    for response_id in (first["id"], "resp_never_was"):
        answer = respond(beta, "And now?", previous_response_id=response_id)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == "previous_response_id"
        assert error["code"] == "previous_response_not_found"
        told.append(error["message"].replace(response_id, ""))
    assert told[0] == told[1]


def test_what_is_not_to_be_stored_is_not(alpha: Caller) -> None:
    first = respond(alpha, "Weather in Worms?", store=False).json()
    assert first["store"] is False
    assert alpha.get(f"/v1/responses/{first['id']}").status_code == 404
    answer = respond(alpha, result_of(first), previous_response_id=first["id"])
    assert answer.status_code == 400


def test_instructions_do_not_carry_over_and_items_do(alpha: Caller) -> None:
    first = respond(alpha, "Weather in Mainz?", instructions="Be brief.").json()
    second = respond(
        alpha, result_of(first), previous_response_id=first["id"], instructions="Be kind."
    ).json()
    listed = alpha.get(f"/v1/responses/{second['id']}/input_items?order=asc").json()
    kinds = [item["type"] for item in listed["data"]]
    assert kinds == ["message", "function_call", "function_call_output"]
    assert listed["data"][0]["content"] == [{"type": "input_text", "text": "Weather in Mainz?"}]


def test_tokens_are_counted_as_the_request_would_have_them(alpha: Caller) -> None:
    first = respond(alpha, "Weather in Fulda?").json()
    given = {"input": result_of(first), "previous_response_id": first["id"]}
    counted = alpha.post("/v1/responses/input_tokens", model="demo", tools=RESPONSE_TOOLS, **given)
    assert counted.json()["object"] == "response.input_tokens"
    second = respond(alpha, given["input"], previous_response_id=first["id"]).json()
    assert counted.json()["input_tokens"] == second["usage"]["input_tokens"]


def test_conversations_are_refused_and_models_are_found(alpha: Caller) -> None:
    answer = respond(alpha, "Weather?", conversation="conv_1")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "conversation"
    assert alpha.get("/v1/models/demo").json()["id"] == "demo"
    assert alpha.get("/v1/models/another").status_code == 404


def test_a_response_in_the_background_is_streamed_again_from_anywhere(
    server_with_keys: RestartableServer,
) -> None:
    async def run() -> None:
        async with server_with_keys.server.client("alpha") as client:
            stream = await client.responses.create(
                input="Weather in Halle?", background=True, stream=True, **OPTIONS
            )
            events = [event async for event in stream]
            done = events[-1]
            assert done.type == "response.completed"
            assert done.response.background
            assert [event.sequence_number for event in events] == list(range(len(events)))
            rest = await client.responses.retrieve(
                done.response.id, stream=True, starting_after=len(events) - 3
            )
            assert [event.type async for event in rest] == [event.type for event in events[-2:]]
            found = await client.responses.retrieve(done.response.id)
            assert found.output == done.response.output
            await client.responses.delete(found.id)
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve(found.id)

    asyncio.run(run())


def test_a_response_in_the_background_is_asked_for_until_it_is_over(
    server_with_keys: RestartableServer,
) -> None:
    async def run() -> None:
        async with server_with_keys.server.client("alpha") as client:
            queued = await client.responses.create(
                input="Weather in Gotha?", background=True, **OPTIONS
            )
            assert queued.status == "queued"
            async with asyncio.timeout(60):
                while queued.status in ("queued", "in_progress"):
                    queued = await client.responses.retrieve(queued.id)
            (call,) = queued.output
            output = {"type": "function_call_output", "call_id": call.call_id, "output": "12"}
            after = await client.responses.create(
                input=[output], previous_response_id=queued.id, **OPTIONS
            )
            assert after.usage.caesura["continuation"] == "transcript"
            assert after.usage.caesura["recomputed_tokens"] < BLOCK_SIZE
            long = await client.responses.create(
                **{**OPTIONS, "tools": [], "max_output_tokens": 3000},
                input="Tell me a story.",
                background=True,
            )
            assert (await client.responses.cancel(long.id)).status == "cancelled"
            assert (await client.responses.retrieve(long.id)).status == "cancelled"

    asyncio.run(run())
