from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.cml.latency import (
    CallTimes,
    async_seconds,
    best_order,
    sync_parallel_seconds,
    sync_seconds,
)

# Quarters of a second are exact in binary, so that equal latencies are equal.
quarters = st.integers(0, 40).map(lambda number: number / 4)
calls = st.builds(CallTimes, quarters, quarters)


def test_an_example_by_hand() -> None:
    issued = [CallTimes(1, 2), CallTimes(1, 5), CallTimes(2, 0.5)]
    assert sync_seconds(issued) == 11.5
    assert sync_parallel_seconds(issued) == 9
    assert async_seconds(issued) == 7
    assert async_seconds(best_order(issued)) == 6


@given(st.lists(calls, max_size=6))
def test_longest_first_is_the_best_of_all_orders(issued: list[CallTimes]) -> None:
    best = min(async_seconds(order) for order in permutations(issued))
    assert async_seconds(best_order(issued)) == best


@given(st.lists(calls, max_size=6))
def test_asynchronous_is_never_slower_nor_faster_than_the_work(issued: list[CallTimes]) -> None:
    assert async_seconds(issued) <= sync_parallel_seconds(issued) <= sync_seconds(issued)
    assert async_seconds(issued) >= sum(call.generation_seconds for call in issued)
    assert async_seconds(issued) >= max((call.execution_seconds for call in issued), default=0)


@pytest.mark.parametrize("seconds", [sync_seconds, sync_parallel_seconds, async_seconds])
def test_no_calls_take_no_time(seconds) -> None:
    assert seconds([]) == 0
