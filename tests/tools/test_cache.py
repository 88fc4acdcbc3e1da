import asyncio

from hypothesis import given
from hypothesis import strategies as st

from caesura.tools.cache import MAX_ENTRIES, Outcome, ResultCache, cache_key
from caesura.tools.call import CallEnding

NUMBERS = st.integers(-(2**53), 2**53)


def test_calls_that_mean_the_same_have_the_same_key() -> None:
    assert cache_key("o", "t", {"a": 1, "b": [2.0]}) == cache_key("o", "t", {"b": [2], "a": 1.0})


def test_calls_that_mean_something_else_have_another_key() -> None:
    keys = {
        cache_key("o", "t", {"a": 1}),
        cache_key("o", "u", {"a": 1}),
        cache_key("o", "t", {"a": "1"}),
        cache_key("o", "t", {"a": True}),
        cache_key("o", "t", {"a": [1]}),
        cache_key("o", "t", {"a": 1.5}),
        cache_key("o", "t", {"a": None}),
        cache_key("o", "t", {}),
        cache_key("p", "t", {}),
        cache_key(None, "t", {}),
    }
    assert len(keys) == 10


@given(st.dictionaries(st.text(), NUMBERS))
def test_neither_order_nor_spelling_of_numbers_matters(arguments: dict[str, int]) -> None:
    turned = {key: float(value) for key, value in reversed(arguments.items())}
    assert cache_key("o", "t", arguments) == cache_key("o", "t", turned)


async def test_the_least_recently_used_is_given_up() -> None:
    cache = ResultCache(lambda: 0.0)
    ran: list[str] = []

    async def get(key: str) -> bool:
        async def run() -> Outcome:
            ran.append(key)
            return Outcome(CallEnding.SUCCEEDED, key, attempts=1)

        return (await cache.outcome(key, 60, run)).cached

    await get("first")
    await get("second")
    for number in range(MAX_ENTRIES - 2):
        await get(str(number))
    assert await get("first")
    await get("one more")
    assert await get("first")
    assert not await get("second")


async def test_a_run_that_fails_fails_for_all_who_wait() -> None:
    cache = ResultCache(lambda: 0.0)
    gate = asyncio.Event()
    ran: list[str] = []

    async def run() -> Outcome:
        ran.append("ran")
        await gate.wait()
        return Outcome(CallEnding.FAILED, "no", attempts=1)

    waiting = [asyncio.create_task(cache.outcome("k", 60, run)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.set()
    outcomes = await asyncio.gather(*waiting)
    assert [outcome.ending for outcome in outcomes] == [CallEnding.FAILED] * 3
    assert ran == ["ran"]
