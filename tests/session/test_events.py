"""Events: in order, none missing, resumable at every number."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from caesura.session.events import REMEMBERED_EVENTS, RESERVED_EVENTS, EventLog
from caesura.session.records import Event, EventType
from caesura.session.store import Store
from caesura.session.store.event_table import EventPage
from session.workplace import OWNER, agents, events, spec, store_of, tool, until
from support.databases.places import place_of

PLAN = '<<add {"x": 1, "y": 2}>>\nend'


def add(x: int, y: int) -> int:
    """Add."""
    return x + y


async def test_a_stream_can_be_resumed_after_every_event(tmp_path: Path) -> None:
    async with agents(tmp_path / "db", tool(add)) as all_agents:
        agent = await all_agents.create(OWNER, spec(PLAN, keep_open=False))
        told = await events(agent)
        lasting = [event for event in told if event.type not in (EventType.TEXT,)]
        again = await all_agents.agent(OWNER, agent.id)
        for index, event in enumerate(lasting):
            rest = [later async for later in again.events.follow(event.number)]
            assert [later.number for later in rest] == [
                later.number for later in lasting[index + 1 :]
            ]


async def test_a_follower_that_comes_late_has_the_output_so_far(tmp_path: Path) -> None:
    async with agents(tmp_path / "db") as all_agents:
        agent = await all_agents.create(OWNER, spec("x" * 300))
        await until(agent, EventType.TEXT)
        pieces: list[str] = []
        async for event in agent.events.follow():
            if event.type is EventType.TEXT:
                pieces.append(event.data["text"])
            if event.type is EventType.OUTPUT:
                break
    assert event.data["text"].startswith("".join(pieces)) or not pieces


async def test_events_keep_their_order_whichever_is_written_first(tmp_path: Path) -> None:
    store = Store(place_of(tmp_path / "db"))
    log = EventLog("s", 1, store)
    log.claim(10)
    first = log.prepare(EventType.PHASE, {})
    log.piece(EventType.TEXT, {"text": "later"})
    follower = log.follow()
    pending = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    assert not pending.done()
    log.publish(first)
    assert (await pending).type is EventType.PHASE
    assert (await anext(follower)).type is EventType.TEXT
    store.close()


async def test_an_output_replaces_the_pieces_that_wait_behind_an_event(tmp_path: Path) -> None:
    store = Store(place_of(tmp_path / "db"))
    log = EventLog("s", 1, store)
    log.claim(10)
    log.piece(EventType.TEXT, {"text": " So"})
    being_written = log.prepare(EventType.RESULT, {})
    log.piece(EventType.TEXT, {"text": " what"})
    log.output_complete()
    log.publish(being_written)
    log.publish(log.prepare(EventType.OUTPUT, {"text": " So what"}))
    told = [event.type for event in (await log.next_page(0))[0]]
    assert told == [EventType.RESULT, EventType.OUTPUT]


async def test_a_number_that_was_not_written_is_left_out(tmp_path: Path) -> None:
    store = Store(place_of(tmp_path / "db"))
    log = EventLog("s", 1, store)
    lost, kept = log.prepare(EventType.PHASE, {}), log.prepare(EventType.ENDED, {})
    log.publish(kept)
    log.withdraw(lost)
    log.close()
    assert [event.number async for event in log.follow()] == [2]
    store.close()


def test_numbers_are_claimed_before_they_are_used(tmp_path: Path) -> None:
    store = Store(place_of(tmp_path / "db"))
    log = EventLog("s", 5, store)
    assert log.claim(10) == 5 + 10 + RESERVED_EVENTS
    assert log.claim(10) is None
    log = EventLog("s", 5, store)
    log.piece(EventType.TEXT, {"text": "nobody may give this number"})
    assert log.prepare(EventType.PHASE, {}).number == 5
    store.close()


@pytest.mark.parametrize("pieces", [10, 3 * REMEMBERED_EVENTS])
async def test_memory_is_bounded_and_nothing_is_missing(tmp_path: Path, pieces: int) -> None:
    store = Store(place_of(tmp_path / "db"))
    log = EventLog("s", 1, store)
    log.claim(pieces)
    for number in range(pieces):
        log.piece(EventType.TEXT, {"text": str(number)})
    log.close()
    told = [event.data["text"] async for event in log.follow()]
    assert told == [str(number) for number in range(pieces)]
    log.output_complete()
    assert [event async for event in log.follow(1)] == []
    store.close()


async def test_followers_that_leave_leave_nothing(tmp_path: Path) -> None:
    async with agents(tmp_path / "db") as all_agents:
        agent = await all_agents.create(OWNER, spec("hello"))
        await until(agent, EventType.OUTPUT)
        before = asyncio.all_tasks()

        async def follow() -> Event | None:
            async for event in agent.events.follow():
                last = event
            return last

        followers = [asyncio.ensure_future(follow()) for _ in range(1000)]
        await asyncio.sleep(0)
        for follower in followers:
            follower.cancel()
        for follower in followers:
            with contextlib.suppress(asyncio.CancelledError):
                await follower
        assert asyncio.all_tasks() <= before


class Reads:
    """Counts what is read of a store's events."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pages: list[int] = []
        page_of_events = store.page_of_events

        async def counted(session_id: str, after: int) -> EventPage:
            page = await page_of_events(session_id, after)
            self.pages.append(len(page.events))
            return page

        monkeypatch.setattr(store, "page_of_events", counted)


@pytest.mark.parametrize(("characters", "longest"), [(10, 256), (300_000, 4)])
async def test_the_past_is_read_a_page_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, characters: int, longest: int
) -> None:
    async with agents(tmp_path / "db") as all_agents:
        agent = await all_agents.create(OWNER, spec("hello", keep_open=False))
        await events(agent)
        store = store_of(all_agents)
        past = [Event(n, EventType.OUTPUT, {"text": "x" * characters}) for n in range(5000, 6000)]
        await store.commit(
            *(store.add_event(agent.id, event) for event in past[:: max(1, 40 // longest)])
        )
        log = EventLog(agent.id, 7000, store)
        log.close()
        reads = Reads(store, monkeypatch)
        follower = log.follow(4999)
        first = await anext(follower)
        assert len(reads.pages) == 1, "no more is read than is asked for"
        told = [first, *[event async for event in follower]]
        assert [event.number for event in told] == [
            event.number for event in past[:: max(1, 40 // longest)]
        ]
        assert max(reads.pages) == longest
        pages, after, has_more = [], 4999, True
        while has_more:
            page, has_more = await log.next_page(after)
            pages += page
            after = page[-1].number if page else after
        assert [event.number for event in pages] == [event.number for event in told]
