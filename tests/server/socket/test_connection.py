"""Sockets of OpenAI's client, as it is: requests, events, lanes, and what is refused."""

import asyncio
import json
from typing import Any

import openai
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from caesura.server.keys import Key
from caesura.server.socket.connection import SocketLimits
from server.socket.written import Route, sockets

MESSAGE = {"role": "user", "content": "hello"}


async def until(connection: Any, kind: str) -> list[Any]:
    """All events up to the next of a kind."""
    events = []
    async with asyncio.timeout(20):
        while not events or events[-1].type != kind:
            events.append(await connection.recv())
    return events


async def answered(route: Route, connection: Any, text: str = "yes", **more: Any) -> Any:
    """The response to a request that is answered with one text."""
    await connection.response.create(**{"model": "demo", "input": [MESSAGE], **more})
    written = await route.begun()
    written.write(text)
    written.end()
    return (await until(connection, "response.completed"))[-1].response


async def test_a_response_comes_as_over_http() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        await connection.response.create(model="demo", input="hello", temperature=0.5)
        written = await route.begun()
        assert written.body == {
            "model": "demo",
            "input": [{"type": "message", **MESSAGE}],
            "temperature": 0.5,
            "stream": True,
        }
        written.write("Good ")
        written.write("day")
        written.end()
        events = await until(connection, "response.completed")
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(7))
    assert events[-1].response.output_text == "Good day"
    assert all(getattr(event, "stream_id", None) is None for event in events)


def test_the_client_without_async_reads_it_too() -> None:
    async def serving(done: asyncio.Event, ready: asyncio.Future[str]) -> None:
        async with sockets() as route:
            ready.set_result(route.url)
            written = await route.begun()
            written.write("yes")
            written.end()
            await done.wait()

    def asking(url: str) -> str:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        with client.responses.connect() as connection:
            connection.response.create(model="demo", input="hello")
            for event in connection:
                if event.type == "response.completed":
                    return event.response.output_text
        raise AssertionError("the socket was closed")

    async def both() -> str:
        done, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serving(done, ready))
        text = await asyncio.to_thread(asking, await ready)
        done.set()
        await task
        return text

    assert asyncio.run(both()) == "yes"


async def test_a_conversation_goes_on_from_what_the_socket_remembers() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await answered(route, connection, "one", store=False)
        second = await answered(
            route, connection, "two", previous_response_id=first.id, store=False, input="more"
        )
        assert second.previous_response_id == first.id
        third = await answered(route, connection, previous_response_id=second.id, input="again")
        assert third.id
    written = route.requests[-1]
    assert written.texts == [
        *("user: hello", "assistant: one", "user: more", "assistant: two", "user: again"),
    ]
    assert "previous_response_id" not in written.body
    assert written.body["input"][1]["id"] == "msg_1_0", "items go back as they came"


async def test_only_the_latest_response_of_a_lane_is_remembered() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await answered(route, connection)
        await answered(route, connection)
        await connection.response.create(model="demo", input="x", previous_response_id=first.id)
        written = await route.next()
        assert written.body["previous_response_id"] == first.id, "it may be stored"
        assert written.texts == ["user: x"]
        written.refuse(404, "not_found")
        (error,) = await until(connection, "error")
    assert (error.status, error.error.code) == (400, "previous_response_not_found")
    assert error.error.param == "previous_response_id"


async def test_what_follows_a_stored_response_is_sent_with_its_id() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await answered(route, connection, "one", previous_response_id="resp_stored")
        await answered(route, connection, previous_response_id=first.id, input="more")
    written = route.requests[-1]
    assert written.body["previous_response_id"] == "resp_stored"
    assert written.texts == ["user: hello", "assistant: one", "user: more"]


async def test_what_is_stored_need_not_be_sent_again() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await answered(route, connection, "one", store=True)
        second = await answered(route, connection, previous_response_id=first.id, input="more")
        assert route.requests[-1].body["previous_response_id"] == first.id
        assert route.requests[-1].texts == ["user: more"]
        await answered(route, connection, previous_response_id=second.id, input="again")
    assert route.requests[-1].body["previous_response_id"] == first.id, "the second is not stored"
    assert route.requests[-1].texts == ["user: more", "assistant: yes", "user: again"]


async def test_a_failed_continuation_forgets_its_parent_in_its_own_lane_only() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        first = await answered(route, connection)
        fork = {"model": "demo", "input": "x", "previous_response_id": first.id}
        await connection.response.create(**fork, stream_id="other")
        (await route.next()).refuse(400, "odd")
        (error,) = await until(connection, "error")
        assert (error.stream_id, error.error.code) == ("other", "odd")
        await connection.response.create(**fork)
        written = await route.next()
        assert written.texts[0] == "user: hello", "the other lane's failure changes nothing"
        written.refuse(400, "odd")
        await until(connection, "error")
        await connection.response.create(**fork)
        assert (await route.next()).body["previous_response_id"] == first.id


async def test_a_lane_answers_in_order_and_lanes_do_not_wait_for_each_other() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        for text, lane in (("1", "a"), ("2", "a"), ("3", "b")):
            await connection.response.create(model="demo", input=text, stream_id=lane)
        first, third = await route.begun(), await route.begun()
        assert (first.texts, third.texts) == (["user: 1"], ["user: 3"])
        third.end()
        events = await until(connection, "response.completed")
        assert {event.stream_id for event in events} == {"a", "b"}
        assert events[-1].stream_id == "b"
        first.end()
        await until(connection, "response.completed")
        assert (await route.begun()).texts == ["user: 2"]


async def test_more_responses_than_may_be_active_wait() -> None:
    async with (
        sockets(limits=SocketLimits(active=1)) as route,
        route.client().responses.connect() as connection,
    ):
        for lane in ("a", "b"):
            await connection.response.create(model="demo", input=lane, stream_id=lane)
        first = await route.begun()
        await until(connection, "response.in_progress")
        assert len(route.requests) == 1
        first.end()
        assert (await route.next()).texts == ["user: b"]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "response.create", "stream_id": "x" * 257}, "invalid_stream_id"),
        ({"type": "response.create", "stream_id": "a b"}, "invalid_stream_id"),
        ({"type": "response.create", "stream_id": ""}, "invalid_stream_id"),
        ({"type": "response.create", "background": True}, "unsupported_parameter"),
        ({"type": "response.create", "input": 7}, "invalid_request_error"),
        ({"type": "response.create", "previous_response_id": 7}, "invalid_request_error"),
        ({"type": "response.compact"}, "invalid_event"),
        ({}, "invalid_event"),
        ([], "invalid_event"),
    ],
)
async def test_what_cannot_be_is_refused_and_the_socket_stays(event: Any, code: str) -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        await connection.send_raw(json.dumps(event))
        (error,) = await until(connection, "error")
        assert (error.status, error.error.code) == (400, code)
        assert (await answered(route, connection)).status == "completed"


@pytest.mark.parametrize("text", ["{", '"', "\x00", '{"type": "\\ud800"}'])
async def test_what_is_no_json_is_refused(text: str) -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        await connection.send_raw(text)
        (error,) = await until(connection, "error")
        assert error.error.code in ("invalid_event", "not_json")
        assert (await answered(route, connection)).status == "completed"


async def test_the_guard_of_bodies_looks_at_messages_too() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        messages = [MESSAGE] * 2001
        await connection.response.create(model="demo", input=messages)
        (error,) = await until(connection, "error")
        assert error.error.code == "body_too_complex"
        assert not route.requests


async def test_named_lanes_have_a_number() -> None:
    async with (
        sockets(limits=SocketLimits(lanes=2)) as route,
        route.client().responses.connect() as connection,
    ):
        for lane in ("a", "b", None, "a"):
            more = {} if lane is None else {"stream_id": lane}
            assert (await answered(route, connection, **more)).status == "completed"
        await connection.response.create(model="demo", input="x", stream_id="c")
        (error,) = await until(connection, "error")
        assert (error.stream_id, error.error.code) == ("c", "websocket_stream_limit_reached")


async def test_requests_that_wait_in_a_lane_have_a_number() -> None:
    async with (
        sockets(limits=SocketLimits(waiting=1)) as route,
        route.client().responses.connect() as connection,
    ):
        await connection.response.create(model="demo", input="1")
        await route.begun()
        for _ in range(2):
            await connection.response.create(model="demo", input="2")
        error = (await until(connection, "error"))[-1]
        assert (error.status, error.error.code) == (429, "too_many_requests")


async def test_an_old_socket_finishes_its_work_and_is_closed() -> None:
    async with (
        sockets(limits=SocketLimits(seconds=0.0)) as route,
        route.client().responses.connect() as connection,
    ):
        (error,) = await until(connection, "error")
        assert error.error.code == "websocket_connection_limit_reached"
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012, "clients dial again"
        assert not route.requests


async def test_without_generating_only_the_prompt_is_computed() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        await connection.response.create(model="demo", input="hello", generate=False)
        written = await route.begun()
        assert written.body["max_output_tokens"] == 1
        written.write("x")
        written.end("incomplete")
        events = await until(connection, "response.completed")
        assert len(events) == 3
        response = events[-1].response
        assert (response.status, response.output) == ("completed", [])
        assert response.usage.output_tokens == 0
        await answered(route, connection, previous_response_id=response.id, input="more")
    assert route.requests[-1].texts == ["user: hello", "user: more"]


async def test_a_response_without_an_end_is_an_error() -> None:
    async with sockets() as route, route.client().responses.connect() as connection:
        await connection.response.create(model="demo", input="x", stream_id="a")
        written = await route.begun()
        written.break_off()
        error = (await until(connection, "error"))[-1]
        assert (error.status, error.stream_id, error.sequence_number) == (500, "a", 2)


async def test_what_is_generated_ends_with_the_socket() -> None:
    async with sockets() as route:
        async with route.client().responses.connect() as connection:
            for lane in ("a", "b"):
                await connection.response.create(model="demo", input=lane, stream_id=lane)
            await connection.response.create(model="demo", input="waits", stream_id="a")
            writing = [await route.begun() for _ in range(2)]
            await until(connection, "response.in_progress")
        async with asyncio.timeout(20):
            for written in writing:
                await written.is_gone.wait()
        assert len(route.requests) == 2


ANNA = Key.full("anna's")


async def test_a_key_is_asked_for_before_the_socket_is_open() -> None:
    async with sockets(ANNA, Key.full("bert's")) as route:
        with pytest.raises(InvalidStatus) as refused:
            async with route.client("another").responses.connect():
                pass
        assert refused.value.response.status_code == 401
        assert b"no_api_key" in refused.value.response.body
        owners = []
        for key in ("anna's", "bert's"):
            async with route.client(key).responses.connect() as connection:
                await answered(route, connection)
                owners.append(route.requests[-1].owner)
        assert len(set(owners)) == 2


async def test_a_page_of_another_origin_opens_no_socket() -> None:
    async with sockets() as route:
        url = f"{route.url.replace('http', 'ws')}/v1/responses"
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url, origin="https://elsewhere.example"):  # type: ignore[arg-type]
                pass
        assert refused.value.response.status_code == 403
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url, additional_headers={"Host": "rebound.example"}):
                pass
        assert refused.value.response.status_code == 403


async def test_other_sockets_are_refused() -> None:
    async with sockets() as route:
        url = f"{route.url.replace('http', 'ws')}/v1/others"
        with pytest.raises(InvalidStatus):
            async with connect(url):
                pass
