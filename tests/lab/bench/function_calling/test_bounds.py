import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.cml import Mode
from caesura.cml.latency import CallTimes, async_seconds, sync_parallel_seconds, sync_seconds
from caesura.lab.bench.function_calling.bounds import DependentCall, bound_seconds

seconds = st.floats(0, 10)
independent = st.lists(st.builds(CallTimes, seconds, seconds), max_size=8)


@given(independent)
def test_independent_calls_have_the_latency_of_the_theory(times: list[CallTimes]) -> None:
    calls = [DependentCall(one) for one in times]
    assert bound_seconds(Mode.SYNC, calls) == sync_seconds(times)
    assert bound_seconds(Mode.SYNC_PARALLEL, calls) == sync_parallel_seconds(times)
    assert bound_seconds(Mode.ASYNC, calls) == pytest.approx(async_seconds(times))


@given(independent)
def test_no_mode_is_faster_than_async_nor_slower_than_sync_in_a_chain(
    times: list[CallTimes],
) -> None:
    chain = [
        DependentCall(one, (position - 1,) if position else ())
        for position, one in enumerate(times)
    ]
    bounds = [bound_seconds(mode, chain) for mode in Mode]
    assert bounds == pytest.approx([bounds[0]] * 3)


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
