from collections.abc import Iterable
from itertools import accumulate, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.cml import Mode
from caesura.cml.latency import CallTimes, sync_parallel_seconds, sync_seconds
from caesura.lab.bench.function_calling.bounds import DependentCall, bound_seconds

# Quarters of a second are exact in binary, so that equal latencies are equal.
quarters = st.integers(0, 40).map(lambda number: number / 4)
independent = st.lists(st.builds(CallTimes, quarters, quarters), max_size=6)


def bounds(times: Iterable[CallTimes]) -> list[float]:
    """Of calls that do not depend on each other, in `sync`, `sync_parallel` and `async`."""
    calls = [DependentCall(one) for one in times]
    return [bound_seconds(mode, calls) for mode in Mode]


def longest_first(times: Iterable[CallTimes]) -> list[CallTimes]:
    return sorted(times, key=lambda call: call.execution_seconds, reverse=True)


def test_an_example_by_hand() -> None:
    issued = [CallTimes(1, 2), CallTimes(1, 5), CallTimes(2, 0.5)]
    assert bounds(issued) == [11.5, 9, 7]
    assert bounds(longest_first(issued)) == [11.5, 9, 6]
    assert bounds([]) == [0, 0, 0]


@given(independent)
def test_independent_calls_have_the_latency_of_the_theory(times: list[CallTimes]) -> None:
    issued = accumulate(call.generation_seconds for call in times)
    ends = [at + call.execution_seconds for at, call in zip(issued, times, strict=True)]
    theory = [sync_seconds(times), sync_parallel_seconds(times), max(ends, default=0)]
    assert bounds(times) == theory


@given(independent)
def test_asynchronous_is_never_slower_nor_faster_than_the_work(times: list[CallTimes]) -> None:
    sync, sync_parallel, asynchronous = bounds(times)
    assert asynchronous <= sync_parallel <= sync
    assert asynchronous >= sum(call.generation_seconds for call in times)
    assert asynchronous >= max((call.execution_seconds for call in times), default=0)


@given(independent)
def test_longest_first_is_the_best_of_all_orders(times: list[CallTimes]) -> None:
    best = min(bounds(order)[-1] for order in permutations(times))
    assert bounds(longest_first(times))[-1] == best


@given(independent)
def test_no_mode_is_faster_than_async_nor_slower_than_sync_in_a_chain(
    times: list[CallTimes],
) -> None:
    chain = [
        DependentCall(one, (position - 1,) if position else ())
        for position, one in enumerate(times)
    ]
    latencies = [bound_seconds(mode, chain) for mode in Mode]
    assert latencies == [latencies[0]] * 3


def test_two_chains_overlap_in_async_and_wait_for_each_other_in_rounds() -> None:
    # Chain a: 1 + 4, then 1 + 1. Chain b: 1 + 1, then 1 + 4. Issued a, b, b, a.
    calls = [
        DependentCall(CallTimes(1, 4)),
        DependentCall(CallTimes(1, 1)),
        DependentCall(CallTimes(1, 4), (1,)),
        DependentCall(CallTimes(1, 1), (0,)),
    ]
    assert bound_seconds(Mode.SYNC, calls) == 14
    assert bound_seconds(Mode.SYNC_PARALLEL, calls) == (2 + 4) + (2 + 4)
    assert bound_seconds(Mode.ASYNC, calls) == 8  # b's second: begun at 3, written at 4


def test_a_call_cannot_need_a_later_one() -> None:
    with pytest.raises(ValueError, match="call 0"):
        bound_seconds(Mode.ASYNC, [DependentCall(CallTimes(1, 1), (1,)), *2 * [_call()]])


def _call() -> DependentCall:
    return DependentCall(CallTimes(1, 1))
