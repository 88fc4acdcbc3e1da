"""Responses in the store: continued along their conversations, bounded, and forgotten."""

import json
from pathlib import Path

import pytest

from caesura.session.errors import QuotaExceeded, UnknownResponse
from caesura.session.store import ResponseRecord, Store
from session.workplace import agents, spec, store_of
from support.databases.places import place_of

OWNER = "anna"
MUCH = 10**9

ON_EACH_DATABASE = True


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def record(response_id: str, output: str = "out", owner: str = OWNER, runs: bool = False):
    return ResponseRecord(owner, response_id, f'"{output} {response_id}"\n', "{}", runs)


async def add(
    store: Store,
    response_id: str,
    previous: str | None = None,
    *,
    owner: str = OWNER,
    limit_bytes: int = MUCH,
    output: str = "out",
    runs: bool = False,
) -> None:
    place = None if previous is None else await store.place(owner, previous)
    await store.commit(
        *store.add_response(
            record(response_id, output, owner, runs), f'"in {response_id}"\n', place
        ),
        *store.room_for_response(owner, response_id, limit_bytes),
    )


async def delete(store: Store, response_id: str) -> None:
    place = await store.place(OWNER, response_id)
    await store.commit(*store.delete_response(OWNER, place))


async def history(store: Store, response_id: str, owner: str = OWNER) -> list[str]:
    rows = await store.lines_until(await store.place(owner, response_id), MUCH)
    return [json.loads(line) for row in rows for text in row for line in text.splitlines()]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock):
    opened = Store(place_of(tmp_path / "db"), clock)
    yield opened
    opened.close()


async def test_a_response_has_the_history_that_it_continues_and_no_other(store: Store) -> None:
    await add(store, "a")
    await add(store, "b", "a")
    await add(store, "c", "a")
    await add(store, "d", "b")
    assert await history(store, "d") == ["in a", "out a", "in b", "out b", "in d", "out d"]
    assert await history(store, "c") == ["in a", "out a", "in c", "out c"]


async def test_another_owners_response_is_as_unknown_as_one_that_never_was(store: Store) -> None:
    await add(store, "a")
    told = set()
    for owner, response_id in (("bert", "a"), (OWNER, "b")):
        for ask in (store.place, store.response):
            with pytest.raises(UnknownResponse) as refused:
                await ask(owner, response_id)
            told.add(str(refused.value).replace(f" {response_id}", ""))
    assert len(told) == 1
    await add(store, "a", owner="bert", output="other")
    assert await history(store, "a") == ["in a", "out a"]
    assert (await store.response("bert", "a")).output == '"other a"\n'


async def test_what_continues_a_deleted_response_keeps_its_history(store: Store) -> None:
    await add(store, "a")
    await add(store, "b", "a")
    await add(store, "c", "b")
    await add(store, "d", "b")
    for gone in ("b", "a"):
        await delete(store, gone)
        with pytest.raises(UnknownResponse):
            await store.place(OWNER, gone)
        for last in ("c", "d"):
            assert await history(store, last) == [
                *("in a", "out a", "in b", "out b"),
                *(f"in {last}", f"out {last}"),
            ]
    for last in ("c", "d"):
        await delete(store, last)
    assert await store.owner_bytes(OWNER) == 0


async def test_nothing_continues_what_was_deleted_meanwhile(store: Store) -> None:
    await add(store, "a")
    place = await store.place(OWNER, "a")
    await delete(store, "a")
    with pytest.raises(UnknownResponse):
        await store.commit(*store.add_response(record("b"), "", place))


async def test_a_reused_id_makes_no_circle(store: Store) -> None:
    await add(store, "a")
    await add(store, "b", "a")
    await delete(store, "a")
    await add(store, "a", "b")
    assert await history(store, "a") == ["in a", "out a", "in b", "out b", "in a", "out a"]


async def test_the_conversation_that_was_used_least_recently_gives_way_as_a_whole(
    store: Store, clock: Clock
) -> None:
    await add(store, "old", output="x" * 1000)
    clock.seconds += 1
    await add(store, "unused", output="x" * 1000)
    await add(store, "unused 2", "unused", output="x" * 1000)
    clock.seconds += 1
    await add(store, "old 2", "old", output="x" * 1000)
    kept = await store.owner_bytes(OWNER)
    await add(store, "other", owner="bert", limit_bytes=kept)
    clock.seconds += 1
    await add(store, "new", output="x" * 1000, limit_bytes=kept)
    assert len(await history(store, "old 2")) == 4
    for gone in ("unused", "unused 2"):
        with pytest.raises(UnknownResponse):
            await store.place(OWNER, gone)
    assert await store.owner_bytes(OWNER) <= kept
    assert await history(store, "other", "bert"), "nobody else's gives way"


async def test_one_conversation_does_not_outgrow_its_owners_limit(store: Store) -> None:
    await add(store, "a", output="x" * 1000)
    kept = await store.owner_bytes(OWNER)
    with pytest.raises(QuotaExceeded):
        await add(store, "b", "a", output="x" * 1000, limit_bytes=kept + 500)
    assert await store.owner_bytes(OWNER) == kept
    assert await history(store, "a")


async def test_conversations_make_room_for_sessions(tmp_path: Path) -> None:
    async with agents(tmp_path / "db", owner_bytes=20_000) as all_agents:
        store = store_of(all_agents)
        await add(store, "a", output="x" * 19_000, limit_bytes=20_000)
        await all_agents.create(OWNER, spec("hello"))
        with pytest.raises(UnknownResponse):
            await store.place(OWNER, "a")
        assert 0 < await store.owner_bytes(OWNER) < 19_000


async def test_conversations_that_nobody_continues_are_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    async with agents(tmp_path / "db", clock=clock, retention_seconds=100.0) as all_agents:
        store = store_of(all_agents)
        await add(store, "a")
        await add(store, "b")
        clock.seconds += 60
        await add(store, "a 2", "a")
        clock.seconds += 60
        await all_agents.sweep()
        assert len(await history(store, "a 2")) == 4
        with pytest.raises(UnknownResponse):
            await store.place(OWNER, "b")
        clock.seconds += 101
        await all_agents.sweep()
        assert await store.owner_bytes(OWNER) == 0


async def test_what_was_being_generated_is_lost_after_a_restart(store: Store) -> None:
    await add(store, "a", runs=True)
    await add(store, "b")
    assert (await store.place(OWNER, "a")).runs
    assert await store.responses_running(OWNER) == 1
    assert await store.lost_responses() == [await store.response(OWNER, "a")]
    await store.commit(store.finish_response(record("a"), ""))
    assert await store.lost_responses() == []
    assert await store.responses_running(OWNER) == 0


async def test_a_response_that_is_finished_counts_with_its_output(store: Store) -> None:
    await add(store, "a", runs=True)
    before = await store.owner_bytes(OWNER)
    await store.commit(store.finish_response(record("a", "x" * 1000), '{"type": "e"}\n'))
    assert await store.owner_bytes(OWNER) > before + 900
    assert not (await store.response(OWNER, "a")).runs
    assert await store.response_events(OWNER, "a") == '{"type": "e"}\n'
