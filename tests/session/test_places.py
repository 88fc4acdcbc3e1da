"""How many turns of an owner are generated at once, and who waits for whom."""

import asyncio

import pytest

from caesura.session import ContextFull, Sampling, Session, SessionClosed, StopReason
from caesura.session.places import OwnersPlaces, PlacedEngine, Places
from support.engines.fakes import FakeEngine, continuation

TURN = Sampling(max_tokens=4, ignore_eos=True)


def test_who_comes_first_is_served_first() -> None:
    places = Places(2)
    asked = [places.ask() for _ in range(4)]
    assert [place.is_granted for place in asked] == [True, True, False, False]
    asked[2].give_back()  # it does not wait any more
    asked[0].give_back()
    assert asked[3].is_granted
    assert not places.ask().is_granted


def test_one_that_asks_for_many_is_not_overtaken() -> None:
    places = Places(3)
    first, many, last = places.ask(), places.ask(3), places.ask()
    assert (first.is_granted, many.is_granted, last.is_granted) == (True, False, False)
    first.give_back()
    assert many.is_granted
    assert not last.is_granted
    many.give_back()
    many.give_back()  # twice is once
    assert last.is_granted
    assert places.ask(2).is_granted
    assert not places.ask().is_granted


def test_one_that_asks_for_more_than_there_are_has_all() -> None:
    places = Places(2)
    assert places.ask(100).is_granted
    assert not places.ask().is_granted
    assert Places(None).ask(100).is_granted


async def test_a_wait_that_is_cancelled_takes_no_place() -> None:
    places = Places(1)
    first = places.ask()

    async def work() -> None:
        async with places.ask():
            raise AssertionError("there was no place")

    waiting = asyncio.create_task(work())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    first.give_back()
    assert places.ask().is_granted


async def test_a_wait_that_is_cancelled_just_when_its_place_comes_gives_it_back() -> None:
    places = Places(1)
    first = places.ask()

    async def work() -> None:
        async with places.ask():
            pass

    waiting = asyncio.create_task(work())
    await asyncio.sleep(0)
    first.give_back()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert places.ask().is_granted


def test_owners_have_places_of_their_own() -> None:
    places = OwnersPlaces({"anna": 1}.get)
    assert places.of("anna").ask().is_granted
    assert not places.of("anna").ask().is_granted
    assert all(places.of("bert").ask().is_granted for _ in range(100))


async def turn(session: Session) -> list[int]:
    """What a session writes until it pauses."""
    return [token async for delta in session for token in delta.token_ids]


async def opened(engine: PlacedEngine, *prompt: int) -> Session:
    return await Session.open(engine, prompt, TURN)


async def test_turns_wait_for_a_place_and_are_what_they_would_be_without() -> None:
    engine = FakeEngine()
    placed = PlacedEngine(engine, Places(1))
    first, second = await opened(placed, 1), await opened(placed, 2)
    waiting = asyncio.create_task(turn(second))
    assert len(engine.streams) == 1  # the engine has no word of the second
    assert await turn(first) == continuation([1], 4)
    assert await waiting == continuation([2], 4)
    await first.resume([7])  # nobody else generates
    assert await turn(first) == continuation([1, *continuation([1], 4), 7], 4)


async def test_a_session_that_is_resumed_without_a_place_stays_paused_in_the_engine() -> None:
    engine = FakeEngine()
    placed = PlacedEngine(engine, Places(1))
    first = await opened(placed, 1)
    await turn(first)
    second = await opened(placed, 2)
    await first.resume([7])
    waiting = asyncio.create_task(turn(first))
    await asyncio.sleep(0)
    assert engine.streams[first.id].transcript == [1, *continuation([1], 4)]
    await turn(second)
    assert await waiting == continuation([1, *continuation([1], 4), 7], 4)


async def test_an_interrupt_needs_no_place_of_its_own() -> None:
    placed = PlacedEngine(FakeEngine(), Places(1))
    session = await opened(placed, 1)
    stops = []
    async for delta in session:
        stops += [delta.stop] if delta.stop is not None else []
        if not stops and len(session.transcript) == 3:
            await session.interrupt([50])
    assert stops == [StopReason.INTERRUPTED, StopReason.LENGTH]
    begin = [1, *continuation([1], 2), 50]
    assert session.transcript == [*begin, *continuation(begin, 4)]
    assert (await opened(placed, 2)).transcript  # the place is free


async def test_an_interrupt_of_a_turn_that_waits_follows_its_prompt() -> None:
    placed = PlacedEngine(FakeEngine(), Places(1))
    first, second = await opened(placed, 1), await opened(placed, 2)
    await second.interrupt([50])
    waiting = asyncio.create_task(turn(second))
    await turn(first)
    await waiting
    assert second.transcript[:2] == [2, 50]
    assert second.transcript[2:] == continuation([2, 50], 4)


@pytest.mark.parametrize("reads", [True, False])
async def test_a_session_that_is_closed_while_it_waits_takes_no_place(reads: bool) -> None:
    engine = FakeEngine()
    placed = PlacedEngine(engine, Places(1))
    first, second = await opened(placed, 1), await opened(placed, 2)
    reading = asyncio.create_task(turn(second)) if reads else None
    await asyncio.sleep(0)
    await second.close()
    if reading is not None:
        assert await reading == []
    with pytest.raises(SessionClosed):
        await second.resume([3])
    await turn(first)
    third = await opened(placed, 3)
    assert await turn(third) == continuation([3], 4)
    assert len(engine.streams) == 2


async def test_a_session_that_is_closed_while_it_generates_gives_its_place_back() -> None:
    placed = PlacedEngine(FakeEngine(), Places(1))
    first, second = await opened(placed, 1), await opened(placed, 2)
    waiting = asyncio.create_task(turn(second))
    await first.close()
    assert await waiting == continuation([2], 4)


async def test_a_turn_that_the_engine_refuses_gives_its_place_back() -> None:
    engine = FakeEngine()
    engine.max_context_tokens = 6
    placed = PlacedEngine(engine, Places(1))
    with pytest.raises(ContextFull):
        await opened(placed, *range(6))
    first = await opened(placed, 1)
    await turn(first)
    with pytest.raises(ContextFull):
        await first.resume([1, 2, 3])
    assert await turn(await opened(placed, 2)) == continuation([2], 4)
