"""Fused chains and cached results, as plans of calls."""

import pytest

from caesura.cml import Call
from caesura.lab.bench.function_calling.optimisations import SEQUENCE, cached, fused
from caesura.lab.bench.function_calling.plans import TimedCall, issue_order


def known(call_id: str, *after: int, seconds: float = 1.0, name: str | None = None) -> TimedCall:
    return TimedCall(Call(call_id, name or call_id, {}), after, seconds, f"result of {call_id}")


def test_a_call_is_issued_behind_all_that_it_needs() -> None:
    assert issue_order([known("c", 1), known("a"), known("b", 0, 1)]) == [1, 0, 2]


def test_a_chain_is_one_call_that_takes_as_long_as_all() -> None:
    calls = [known("b", 1, seconds=3), known("a", seconds=2), known("x", seconds=0.5)]
    first, single = fused(calls)
    assert first.call.id == "a"
    assert first.call.name == SEQUENCE
    assert first.call.arguments["calls"] == [
        {"name": "a", "arguments": {}},
        {"name": "b", "arguments": {}},
    ]
    assert (first.after, first.seconds, first.result) == ((), 5, "result of b")
    assert single == calls[2]


def test_a_chain_ends_where_calls_part_or_meet() -> None:
    # a -> b, a -> c, (b, c) -> d -> e
    calls = [known("a"), known("b", 0), known("c", 0), known("d", 1, 2), known("e", 3)]
    found = fused(calls)
    assert [one.call.id for one in found] == ["a", "b", "c", "d"]
    assert [one.after for one in found] == [(), (0,), (0,), (1, 2)]
    assert found[-1].seconds == 2


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_a_call_takes_no_time_the_second_time(order: tuple[int, ...]) -> None:
    calls = [known("a", name="f"), known("b", name="g"), known("c", name="f")]
    found = cached([calls[place] for place in order])
    assert [one.seconds for one in found] == [1, 1, 0]
    assert [one.call.id for one in found] == [calls[place].call.id for place in order]
