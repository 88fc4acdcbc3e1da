"""The client of sessions, at a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from caesura.chat.client import Refused, SessionsClient, Unreachable
from caesura.chat.records import EventKind, GivenAnswer, SessionEvent
from caesura.server.sessions.event_stream import KEEP_ALIVE, encoded_event
from chat.chatting import wire
from server.served import Served, form, human, served
from session.workplace import tool


def unexpected(is_there: bool) -> None:
    raise AssertionError(f"the connection broke: {is_there}")


async def first(client: SessionsClient, session_id: str, kind: EventKind) -> SessionEvent:
    async with asyncio.timeout(20):
        async with aclosing(client.events(session_id, on_connection=unexpected)) as events:
            async for event in events:
                if event.kind is kind:
                    return event
    raise AssertionError(f"no {kind} came")


async def test_a_session_is_made_in_a_mode(tmp_path: Path) -> None:
    async with served(tmp_path / "db") as server, SessionsClient(server.url) as ours:
        session = await ours.create("hello", function_calling="sync")
        made = (await server.client.get(f"/v1/sessions/{session.id}")).json()
        assert made["function_calling"] == "sync"


async def test_a_session_is_made_followed_and_read(tmp_path: Path) -> None:
    async with served(tmp_path / "db") as server, SessionsClient(f"{server.url}/v1/") as ours:
        session = await ours.create("hello", tools=[], keep_open=False)
        told = [e async for e in ours.events(session.id, on_connection=unexpected)]
        assert [told[0].kind, told[-1].kind] == [EventKind.CREATED, EventKind.ENDED]
        assert await ours.last_event(session.id) == told[-1].number
        after = session.id, told[-2].number
        assert [e async for e in ours.events(*after, on_connection=unexpected)] == told[-1:]
        over = await ours.session(session.id)
        assert (over.is_over, over.ending, over.output_text) == (
            True,
            "completed",
            "heard: . hello",
        )
        assert [listed.id for listed in await ours.sessions()] == [session.id]
        assert [item["role"] for item in await ours.transcript(session.id)] == ["user", "assistant"]


async def test_questions_are_answered_and_answers_that_do_not_fit_are_refused(
    tmp_path: Path,
) -> None:
    async with served(tmp_path / "db", tool(form)) as server, SessionsClient(server.url) as ours:
        session = await ours.create("<<form {}>>\nthanks")
        asked = await first(ours, session.id, EventKind.ASKED)
        approval = await ours.approval(asked.text("approval_id"))
        assert (approval.kind, approval.text, approval.is_waiting) == ("input", "How old?", True)
        assert approval.json_schema is not None
        assert "properties" in approval.json_schema
        with pytest.raises(Refused, match="is not of type") as refused:
            await ours.answer(approval.id, GivenAnswer(accepted=True, content={"age": "old"}))
        assert refused.value.status == 400
        given = GivenAnswer(accepted=True, content={"age": 7})
        assert not (await ours.answer(approval.id, given)).is_waiting
        with pytest.raises(Refused) as refused:
            await ours.answer(approval.id, given)
        assert refused.value.status == 409


async def test_a_session_is_held_and_goes_on(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human()) as server, SessionsClient(server.url) as ours:
        session = await ours.create('<<ask {"question": "Which?"}>>\nthanks')
        await first(ours, session.id, EventKind.ASKED)
        assert (await ours.pause(session.id)).held
        assert not (await ours.resume(session.id)).held
        assert (await ours.cancel(session.id)).ending == "cancelled"
        with pytest.raises(Refused, match="is over") as refused:
            await ours.say(session.id, "hello?")
        assert refused.value.status == 409


async def test_keys_are_presented_and_errors_are_the_servers_words(tmp_path: Path) -> None:
    async with served(tmp_path / "db", has_keys=True) as server:
        async with (
            SessionsClient(server.url, "anna") as anna,
            SessionsClient(server.url, "bert") as bert,
        ):
            session = await anna.create("hello")
            with pytest.raises(Refused, match=f"there is no session {session.id}"):
                await bert.session(session.id)
        async with SessionsClient(server.url) as nobody:
            with pytest.raises(Refused, match="give an API key"):
                await nobody.sessions()


async def test_no_server_is_said_with_what_to_do() -> None:
    async with SessionsClient("http://127.0.0.1:9") as nowhere:
        with pytest.raises(Unreachable, match="Is `caesura serve` running"):
            await nowhere.sessions()
        events = nowhere.events("sess_1", give_up_seconds=0)
        with pytest.raises(Unreachable):
            await anext(events)
    with pytest.raises(ValueError, match="not an http"):
        SessionsClient("localhost:8000")


async def test_events_go_on_where_the_connection_broke(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "waited"

    async with served(tmp_path / "db", tool(wait)) as server, wire(server.url) as line:
        async with SessionsClient(line.url) as ours:
            session = await ours.create("<<wait {}>>\nthe end", keep_open=False)
            connections: list[bool] = []
            told: list[SessionEvent] = []
            async with asyncio.timeout(20):
                async for event in ours.events(session.id, on_connection=connections.append):
                    told.append(event)
                    if event.kind is EventKind.DISPATCHED:
                        line.cut()
                        gate.set()
                        await _over(server, session.id)  # all that follows is missed
                        line.mend()
        stored = await server.work.store.events(session.id)
    assert connections == [False, True]
    lasting = {event.number for event in stored}
    assert [event.number for event in told if event.number in lasting] == sorted(lasting)
    assert told[-1].kind is EventKind.ENDED


# What a server may send


@asynccontextmanager
async def sending(*pieces: bytes, kind: str = "text/event-stream") -> AsyncIterator[str]:
    """A server that answers everything with these pieces, and closes; its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def read(*pieces: bytes, **options: str) -> list[SessionEvent]:
    async with sending(*pieces, **options) as url, SessionsClient(url) as ours:
        events: list[SessionEvent] = []

        async def follow() -> None:
            async for event in ours.events("sess_1", give_up_seconds=-1):
                events.append(event)

        with pytest.raises(Unreachable, match="has closed the connection"):
            await follow()
        return events


TOLD = SessionEvent(number=3, kind=EventKind.TEXT, data={"text": "é日\u2028\x85\r\n👩"})


async def test_events_may_come_in_pieces_of_any_size_between_comments() -> None:
    event = encoded_event(TOLD.data, TOLD.kind, TOLD.number)
    stream = KEEP_ALIVE + event + KEEP_ALIVE + event.replace(b"\n", b"\r\n") + KEEP_ALIVE
    assert await read(stream) == [TOLD, TOLD]
    assert await read(*(stream[at : at + 1] for at in range(len(stream)))) == [TOLD, TOLD]


async def test_an_event_that_was_cut_off_or_is_of_another_kind_is_not_given() -> None:
    event = encoded_event(TOLD.data, TOLD.kind, TOLD.number)
    newer = encoded_event({}, "session.dreamt", 4)
    assert await read(event, newer, encoded_event(TOLD.data, TOLD.kind, 5)[:-1]) == [TOLD]


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"{}", "application/json"),
        (b"event: output.text.delta\ndata: {}\n\n", "text/event-stream"),
        (b"id: 1\nevent: output.text.delta\ndata: {\n\n", "text/event-stream"),
    ],
    ids=["no-events", "no-number", "no-json"],
)
async def test_what_is_no_stream_of_events_is_refused_and_not_asked_for_again(
    sent: bytes, kind: str
) -> None:
    async with sending(sent, kind=kind) as url, SessionsClient(url) as ours:
        with pytest.raises(Refused):
            await anext(ours.events("sess_1", give_up_seconds=-1))


async def _over(server: Served, session_id: str) -> None:
    await server.until(session_id, phase="ended")
