"""Streams of events: resumed anywhere, kept alive, and gone with their clients."""

import asyncio
import gc
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caesura.server.sessions.event_stream import EventStreamResponse, encoded_event
from server.served import Served, events, human, served, streamed
from session.workplace import eventually, tool
from support.draws import examples

WAITING = '<<ask {"question": "well?"}>>\nend'


def add(x: int, y: int) -> int:
    """Add."""
    return x + y


async def test_a_stream_resumes_after_any_event(tmp_path: Path) -> None:
    async with served(tmp_path / "db", tool(add)) as server:
        made = await server.session('<<add {"x": 1, "y": 2}>>\nend', keep_open=False)
        place = f"/v1/sessions/{made['id']}/events"
        await server.until(made["id"], phase="ended")
        told = await streamed(server.client, place)
        for after in range(int(told[-1][0]) + 2):
            missing = [event for event in told if int(event[0]) > after]
            header = {"Last-Event-ID": str(after)}
            assert await streamed(server.client, place, headers=header) == missing
            assert await streamed(server.client, place, params={"after": after}) == missing
        # A browser repeats its first address, and says in the header where it is.
        both = await streamed(
            server.client, place, params={"after": 1}, headers={"Last-Event-ID": told[-2][0]}
        )
        assert both == told[-1:]


async def test_a_client_that_reconnects_at_random_misses_nothing(tmp_path: Path) -> None:
    """However often it is cut off while the session goes on, it gets what another one gets."""
    async with served(tmp_path / "db", tool(add)) as server:

        @settings(max_examples=examples(15))
        @given(st.lists(st.integers(1, 40), max_size=6))
        def reconnecting(lengths: list[int]) -> None:
            asyncio.run_coroutine_threadsafe(_reconnecting(server, lengths), loop).result(60)

        loop = asyncio.get_running_loop()
        await asyncio.to_thread(reconnecting)


async def _reconnecting(server: Served, lengths: list[int]) -> None:
    plan = '<<add {"x": 1, "y": 2}>> and\n<<add {"x": 3, "y": 4}>> then\nthe end'
    made = await server.session(plan, keep_open=False)
    place = f"/v1/sessions/{made['id']}/events"
    whole = asyncio.create_task(streamed(server.client, place))
    got: list[tuple[str, str, dict]] = []
    for length in lengths:
        after = got[-1][0] if got else "0"
        got += await _first(server.client, place, after, length)
    after = got[-1][0] if got else "0"
    got += await streamed(server.client, place, headers={"Last-Event-ID": after})
    assert [number for number, _, _ in got] == sorted({n for n, _, _ in got}, key=int)
    # Pieces of an output are not kept once it is complete; all else must be there.
    pieces = {"output.text.delta", "output.reasoning.delta"}
    kept = [event for event in got if event[1] not in pieces]
    assert kept == [event for event in await whole if event[1] not in pieces]


async def _first(
    client: httpx.AsyncClient, place: str, after: str, length: int
) -> list[tuple[str, str, dict]]:
    """Some events, and then the client is gone."""
    text = ""
    async with client.stream("GET", place, headers={"Last-Event-ID": after}) as answer:
        async for part in answer.aiter_text():
            text += part
            if text.count("\n\n") >= length:
                break
    complete = text[: text.rindex("\n\n") + 2] if "\n\n" in text else ""
    return events(complete)[:length]


async def test_a_list_of_events_waits_for_the_next(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human()) as server:
        made = await server.session(WAITING)
        asked = await server.asked()
        place = f"/v1/sessions/{made['id']}/events"
        there = (await server.client.get(place, params={"stream": False})).json()
        last = there["data"][-1]["id"]
        assert there["data"][0]["type"] == "session.created"

        nothing = {"stream": False, "after": last, "wait_seconds": 0.01}
        assert (await server.client.get(place, params=nothing)).json()["data"] == []
        waiting = asyncio.create_task(
            server.client.get(place, params={"stream": False, "after": last, "wait_seconds": 20})
        )
        await server.client.post(
            f"/v1/approvals/{asked['id']}", json={"accepted": True, "text": "yes"}
        )
        following = (await waiting).json()["data"]
        assert following[0]["id"] > last


@pytest.mark.parametrize(
    "options",
    [
        {"params": {"after": -1}},
        {"params": {"after": 2**70}},
        {"params": {"wait_seconds": "nan"}},
        {"params": {"wait_seconds": 1e9}},
        {"headers": {"Last-Event-ID": "x' OR 1=1"}},
    ],
)
async def test_positions_that_are_none_are_refused(tmp_path: Path, options: dict) -> None:
    async with served(tmp_path / "db") as server:
        made = await server.session("hello")
        answer = await server.client.get(f"/v1/sessions/{made['id']}/events", **options)
        assert answer.status_code == 400


async def test_a_stream_without_events_is_kept_alive(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human(), keep_alive_seconds=0.01) as server:
        made = await server.session(WAITING)
        await server.asked()
        text = ""
        async with server.client.stream("GET", f"/v1/sessions/{made['id']}/events") as answer:
            async with asyncio.timeout(20):
                async for part in answer.aiter_text():
                    text += part
                    if text.count(": keep-alive") >= 3:
                        break
        assert [kind for _, kind, _ in events(text)][-1] == "approval.requested"


async def test_a_thousand_clients_that_leave_take_nothing_along(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human()) as server:
        made = await server.session(WAITING)
        await server.asked()
        host, _, port = server.url.removeprefix("http://").partition(":")
        request = (
            f"GET /v1/sessions/{made['id']}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )

        async def come_and_go() -> None:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(request)
            await reader.readuntil(b"session.created")
            writer.close()
            await writer.wait_closed()

        before = _tasks()
        for _ in range(20):
            await asyncio.gather(*(come_and_go() for _ in range(50)))
        await eventually(lambda: _tasks() <= before)
        gc.collect()
        left = [o for o in gc.get_objects() if isinstance(o, EventStreamResponse)]
        assert not left


def _tasks() -> int:
    return len(asyncio.all_tasks())


async def test_a_slow_client_makes_its_source_wait() -> None:
    made = 0

    async def pieces():
        nonlocal made
        while True:
            made += 1
            yield encoded_event({"number": made})

    closed = asyncio.Event()
    taken = asyncio.Event()

    async def on_close() -> None:
        closed.set()

    async def receive():
        await taken.wait()
        return {"type": "http.disconnect"}

    sent = 0

    async def send(message) -> None:
        nonlocal sent
        sent += 1
        if sent > 5:
            taken.set()
            await asyncio.Event().wait()  # the client reads no more

    response = EventStreamResponse(pieces(), 15.0, on_close)
    await response({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
    assert closed.is_set()
    assert made <= sent + 1


async def test_a_stream_that_never_began_is_closed_too() -> None:
    closed = asyncio.Event()

    async def pieces():
        yield b"never"

    async def on_close() -> None:
        closed.set()

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message) -> None:
        raise OSError("the client is gone")

    response = EventStreamResponse(pieces(), 15.0, on_close)
    with pytest.raises((OSError, ExceptionGroup)):
        await response({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
    assert closed.is_set()
