from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.cml import Mode
from caesura.lab.bench.function_calling.latency_theory import CallTimes, bound_seconds

# Quarters of a second are exact in binary, so that equal latencies are equal.
quarters = st.integers(0, 40).map(lambda number: number / 4)
independent = st.lists(st.builds(CallTimes, quarters, quarters), max_size=6)


def longest_first(calls: list[CallTimes]) -> list[CallTimes]:
    return sorted(calls, key=lambda call: call.execution_seconds, reverse=True)


def test_an_example_by_hand() -> None:
    calls = [CallTimes(1, 2), CallTimes(1, 5), CallTimes(2, 0.5)]
    assert [bound_seconds(mode, calls) for mode in Mode] == [11.5, 9, 7]
    assert bound_seconds(Mode.ASYNC, longest_first(calls)) == 6


@given(independent)
def test_longest_first_is_the_best_of_all_orders(calls: list[CallTimes]) -> None:
    best = min(bound_seconds(Mode.ASYNC, order) for order in permutations(calls))
    assert bound_seconds(Mode.ASYNC, longest_first(calls)) == best


@given(independent)
def test_asynchronous_is_never_slower_nor_faster_than_the_work(calls: list[CallTimes]) -> None:
    one_by_one, bundled, overlapped = (bound_seconds(mode, calls) for mode in Mode)
    assert overlapped <= bundled <= one_by_one
    assert overlapped >= sum(call.generation_seconds for call in calls)
    assert overlapped >= max((call.execution_seconds for call in calls), default=0)


@pytest.mark.parametrize("mode", Mode)
def test_no_calls_take_no_time(mode: Mode) -> None:
    assert bound_seconds(mode, []) == 0


@given(independent)
def test_in_a_chain_all_modes_are_alike(times: list[CallTimes]) -> None:
    chain = [
        CallTimes(one.generation_seconds, one.execution_seconds, (at - 1,) if at else ())
        for at, one in enumerate(times)
    ]
    assert len({bound_seconds(mode, chain) for mode in Mode}) == 1


def test_two_chains_overlap_in_async_and_wait_for_each_other_in_rounds() -> None:
    # Chain a: 1 + 4, then 1 + 1. Chain b: 1 + 1, then 1 + 4. Issued a, b, b, a.
    calls = [CallTimes(1, 4), CallTimes(1, 1), CallTimes(1, 4, (1,)), CallTimes(1, 1, (0,))]
    assert bound_seconds(Mode.SYNC, calls) == 14
    assert bound_seconds(Mode.SYNC_PARALLEL, calls) == (2 + 4) + (2 + 4)
    # Round by round: written at 1 and 2, there at 5; written at 6 and 7, there at 10.
    assert bound_seconds(Mode.SYNC_PARALLEL, calls, eager=True) == 5 + max(1 + 4, 2 + 1)
    assert bound_seconds(Mode.ASYNC, calls) == 8  # b's second: begun at 3, written at 4


def test_a_call_cannot_need_a_later_one() -> None:
    with pytest.raises(ValueError, match="call 0"):
        bound_seconds(Mode.ASYNC, [CallTimes(1, 1, (1,)), CallTimes(1, 1)])
