"""Steers and results that come while a response is being written."""

import asyncio
import json
from typing import Any

import pytest

from server.socket.test_connection import answered, until
from server.socket.written import Json, Route, Written, sockets

USER = {"role": "user", "content": "shorter"}


async def writing(route: Route, connection: Any, **more: Any) -> Written:
    """A response that has begun to write."""
    await connection.response.create(**{"model": "demo", "input": "hello", **more})
    written = await route.begun()
    written.write("one two")
    await until(connection, "response.output_text.delta")
    return written


async def test_a_steer_ends_the_response_where_it_is_and_another_goes_on() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await writing(route, connection, temperature=0.5, stream_id="a")
        await connection.response.steer(previous_response_id=first.id, input="shorter")
        events = await until(connection, "response.incomplete")
        assert [event.type for event in events] == [
            *("response.steer.accepted", "response.output_item.done", "response.incomplete")
        ]
        accepted, done, end = events
        assert accepted.steer.previous_response_id == first.id
        assert accepted.steer.id.startswith("steer_")
        assert done.item.status == "incomplete"
        assert end.response.incomplete_details.reason == "steered"
        assert end.response.output[0].status == "incomplete"
        assert end.response.output_text == "one two"
        assert [event.sequence_number for event in events] == [4, 5, 6]
        second = await route.begun()
        assert second.texts == ["user: hello", "assistant: one two", "user: shorter"]
        assert second.body["temperature"] == 0.5
        (created,) = await until(connection, "response.created")
        assert created.response.previous_response_id == first.id
        second.write("1")
        second.end()
        completed = (await until(connection, "response.completed"))[-1]
        assert (completed.stream_id, completed.response.output_text) == ("a", "1")
        await answered(
            route, connection, previous_response_id=second.id, input="more", stream_id="a"
        )
    assert first.cuts == [[{"type": "message", "role": "user", "content": "shorter"}]]
    assert route.requests[-1].texts[2:] == ["user: shorter", "assistant: 1", "user: more"]


async def test_without_the_engine_the_steer_waits_for_the_end() -> None:
    async with (
        sockets(in_engine=False) as route,
        route.client().responses.connect() as connection,
    ):
        first = await writing(route, connection)
        await connection.response.steer(previous_response_id=first.id, input=[USER])
        await until(connection, "response.steer.accepted")
        first.write(" three")
        first.end()
        end = (await until(connection, "response.completed"))[-1]
        assert end.response.output[0].status == "completed"
        second = await route.begun()
        assert second.texts == ["user: hello", "assistant: one two three", "user: shorter"]


async def test_steers_that_come_together_are_applied_in_their_order() -> None:
    async with (
        sockets(in_engine=False) as route,
        route.client().responses.connect() as connection,
    ):
        first = await writing(route, connection)
        for text in ("a", "b"):
            await connection.response.steer(previous_response_id=first.id, input=text)
            await until(connection, "response.steer.accepted")
        first.end()
        second = await route.begun()
        assert second.texts[2:] == ["user: a", "user: b"]


async def test_a_steer_before_the_first_token_waits_for_it() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        await connection.response.create(model="demo", input="hello")
        first = await route.begun()
        await until(connection, "response.in_progress")
        await connection.response.steer(previous_response_id=first.id, input="shorter")
        await until(connection, "response.steer.accepted")
        assert not first.cuts
        first.write("one")
        end = (await until(connection, "response.incomplete"))[-1]
        assert end.response.output_text == "one"


async def test_a_steer_waits_for_calls_and_is_pending_until_they_are_answered() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await writing(route, connection)
        first.call("look")
        await until(connection, "response.output_item.done")
        await connection.response.steer(previous_response_id=first.id, input="shorter")
        await until(connection, "response.steer.accepted")
        assert not first.cuts
        first.end()
        events = await until(connection, "response.steer.pending")
        assert [event.type for event in events][-2:] == [
            *("response.completed", "response.steer.pending")
        ]
        (required,) = events[-1].required_input
        assert (required.type, required.call_id, required.name) == (
            *("function_call_output", "call_look", "look"),
        )
        assert events[-1].reason == "waiting_for_required_input"
        result = {"type": "function_call_output", "call_id": "call_look", "output": "7"}
        await connection.response.create(
            model="demo", previous_response_id=first.id, input=[result]
        )
        second = await route.next()
        assert second.texts == [
            *("user: hello", "assistant: one two", "calls look", "user: shorter", "call_look = 7")
        ]


async def test_a_pending_steer_is_given_back_when_the_lane_goes_another_way() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await writing(route, connection)
        first.call("look")
        await until(connection, "response.output_item.done")
        await connection.response.steer(previous_response_id=first.id, input="shorter")
        await until(connection, "response.steer.accepted")
        first.end()
        await until(connection, "response.steer.pending")
        await connection.response.create(model="demo", input="something else")
        failed = (await until(connection, "response.steer.failed"))[-1]
        assert (failed.error.code, failed.steer.input) == ("response_not_active", "shorter")
        assert (await route.next()).texts == ["user: something else"]


async def test_a_call_whose_result_may_come_later_is_waited_for_by_nobody() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await writing(route, connection)
        first.call("look", later=True)
        done = (await until(connection, "response.output_item.done"))[-1]
        done = (await until(connection, "response.output_item.done"))[-1]
        assert done.item.async_ is True
        await connection.response.steer(previous_response_id=first.id, input="shorter")
        end = (await until(connection, "response.incomplete"))[-1]
        assert end.response.incomplete_details.reason == "steered"
        second = await route.next()
        assert second.texts[1:] == ["assistant: one two", "calls look", "user: shorter"]


@pytest.mark.parametrize(
    ("ending", "code"),
    [("completed", "response_already_completed"), ("failed", "response_not_active")],
)
async def test_a_response_that_is_over_takes_no_steer(ending: str, code: str) -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await writing(route, connection)
        first.end(ending)
        await until(connection, f"response.{ending}")
        await connection.response.steer(previous_response_id=first.id, input="shorter")
        (failed,) = await until(connection, "response.steer.failed")
        assert failed.error.code == code
        assert failed.steer.id is None
        assert failed.steer.input == "shorter"


async def test_a_response_of_another_socket_is_not_found() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await writing(route, connection)
        async with route.client().responses.connect() as other:
            for response_id in (first.id, "resp_none"):
                await other.response.steer(previous_response_id=response_id, input="shorter")
                (failed,) = await until(other, "response.steer.failed")
                assert failed.error.code == "response_not_found"


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": []},
        {"input": ""},
        {"input": None},
        {"input": [{"role": "system", "content": "x"}]},
        {"input": [{"role": "user"}]},
        {"input": [{"role": "user", "content": "x", "id": "y"}]},
        {"input": [{"type": "reasoning", "content": "x"}]},
        {"stream_id": "a"},
        {"model": "demo"},
    ],
)
async def test_a_steer_that_is_none_is_given_back(wrong: Json) -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await writing(route, connection)
        event = {"type": "response.steer", "previous_response_id": first.id, "input": "x"} | wrong
        await connection.send_raw(json.dumps(event))
        (failed,) = await until(connection, "response.steer.failed")
        assert failed.error.code == "invalid_input"
        assert failed.steer.input == event["input"]
        assert not first.cuts


async def test_steers_of_one_response_have_a_number() -> None:
    async with (
        sockets(in_engine=False) as route,
        route.client().responses.connect() as connection,
    ):
        first = await writing(route, connection)
        for _ in range(100):
            await connection.response.steer(previous_response_id=first.id, input="x")
        kinds = []
        async with asyncio.timeout(20):
            while len(kinds) < 100:
                event = await connection.recv()
                kinds.append(event.type)
                if event.type == "response.steer.failed":
                    assert event.error.code == "too_many_pending_steers"
        assert kinds.count("response.steer.accepted") == 16
        first.end()
        assert len((await route.begun()).texts) == 2 + 16


async def test_conversations_are_not_steered() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await writing(route, connection, conversation="conv_1")
        await connection.response.steer(previous_response_id=first.id, input="shorter")
        (failed,) = await until(connection, "response.steer.failed")
        assert failed.error.code == "steering_not_supported"


async def test_a_successor_that_cannot_be_made_gives_the_input_back() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await writing(route, connection)
        await connection.response.steer(previous_response_id=first.id, input="shorter")
        accepted = (await until(connection, "response.steer.accepted"))[-1]
        (await route.next()).refuse(400, "context_length_exceeded")
        failed = (await until(connection, "response.steer.failed"))[-1]
        assert failed.error.code == "successor_creation_failed"
        assert failed.error.message == "it is context_length_exceeded"
        assert (failed.steer.id, failed.steer.input) == (accepted.steer.id, "shorter")
        assert (await answered(route, connection)).status == "completed"


RESULT = {"type": "function_call_output", "call_id": "call_look", "output": "7"}


async def test_a_result_goes_into_the_response_that_is_being_written() -> None:
    async with sockets() as route, route.client().beta.responses.connect() as connection:
        await connection.response.create(model="demo", input="hello")
        first = await route.begun()
        first.call("look", later=True)
        first.write("meanwhile")
        await until(connection, "response.output_text.delta")
        await connection.response.inject(response_id=first.id, input=[RESULT])
        second = await route.begun()
        assert second.texts == [
            *("user: hello", "calls look", "assistant: meanwhile", "call_look = 7")
        ]
        second.write("it is 7")
        second.end()
        events = await until(connection, "response.completed")
    kinds = [event.type for event in events]
    assert kinds[0] == "response.inject.created"
    assert "response.created" not in kinds, "it is one response"
    assert "response.incomplete" not in kinds
    end = events[-1].response
    assert end.id == first.id
    assert [item.type for item in end.output] == ["function_call", "message", "message"]
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    added = [event for event in events if event.type == "response.output_item.added"]
    assert [event.output_index for event in added] == [2]
    assert end.usage.output_tokens == 3
    assert first.cuts == [[RESULT]]


async def test_a_result_may_come_as_a_steer_and_answers_a_call() -> None:
    async with (
        sockets(in_engine=False) as route,
        route.client().responses.connect() as connection,
    ):
        first = await writing(route, connection)
        first.call("look")
        await until(connection, "response.output_item.done")
        await connection.response.steer(previous_response_id=first.id, input=[RESULT])
        await until(connection, "response.steer.accepted")
        first.end()
        await until(connection, "response.completed")
        second = await route.begun()
        assert second.texts[2:] == ["calls look", "call_look = 7"]


@pytest.mark.parametrize("over", [True, False])
async def test_a_result_for_no_active_response_is_given_back(over: bool) -> None:
    async with sockets() as route, route.client().beta.responses.connect() as connection:
        target = "resp_none"
        if over:
            target = (await answered(route, connection)).id
        await connection.response.inject(response_id=target, input=[RESULT])
        (failed,) = await until(connection, "response.inject.failed")
        code = "response_already_completed" if over else "response_not_found"
        assert (failed.error.code, failed.response_id) == (code, target)
        await connection.response.inject(response_id=target, input=[USER])
        (failed,) = await until(connection, "response.inject.failed")
        assert failed.error.code == "invalid_input"


async def test_half_of_a_call_is_not_shown_to_the_model() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await writing(route, connection)
        first.ends_at_once = False
        await connection.response.steer(previous_response_id=first.id, input="shorter")
        await until(connection, "response.steer.accepted")
        first.call("look", arguments='{"ha')
        first.end()
        end = (await until(connection, "response.incomplete"))[-1]
        assert end.response.output[-1].status == "incomplete"
        assert (await route.next()).texts == ["user: hello", "assistant: one two", "user: shorter"]
