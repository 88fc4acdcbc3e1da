from itertools import product

import pytest

from caesura.cml import (
    AtEnd,
    Call,
    End,
    EndOfStream,
    ErrorKind,
    Event,
    FireAndForget,
    GoOn,
    Inject,
    Mode,
    Pause,
    Point,
    ProtocolError,
    Situation,
    Text,
    Trap,
    next_step,
)

A, B = Call("a", "f"), Call("b", "f")
MISTAKE = ProtocolError(ErrorKind.MALFORMED_JSON, "The body is not valid JSON.")


def situation(*events: Event, arrived: str = "", queued: bool = False) -> Situation:
    """After these events, with the results of the calls in `arrived` there."""
    point = Point.WRITING
    for event in events:
        point = point.after(event)
    called = {event.id for event in events if isinstance(event, Call)}
    return Situation(point, frozenset(called - set(arrived)), queued or bool(arrived))


def pause(ids: str) -> Pause:
    return Pause(frozenset(ids))


def test_sync_pauses_at_each_call() -> None:
    assert next_step(Mode.SYNC, situation(A)) == pause("a")
    assert next_step(Mode.SYNC, situation(A, arrived="a")) == Inject()


def test_sync_parallel_bundles_adjacent_calls() -> None:
    step = Mode.SYNC_PARALLEL
    assert next_step(step, situation(A)) == GoOn()
    assert next_step(step, situation(A, Text("\n"))) == GoOn()
    assert next_step(step, situation(A, Text("\n"), B)) == GoOn()
    assert next_step(step, situation(A, Text("\n"), B, Text("I"))) == pause("ab")
    assert next_step(step, situation(A, B, Trap())) == pause("ab")
    assert next_step(step, situation(A, B, EndOfStream())) == pause("ab")
    assert next_step(step, situation(A, B, MISTAKE, queued=True)) == pause("ab")


def test_sync_parallel_waits_for_all_results_of_a_bundle() -> None:
    step = Mode.SYNC_PARALLEL
    assert next_step(step, situation(A, B, arrived="a")) == GoOn()
    assert next_step(step, situation(A, B, Trap(), arrived="a")) == pause("b")
    assert next_step(step, situation(A, B, Trap(), arrived="ab")) == Inject()
    assert next_step(step, situation(A, B, EndOfStream(), arrived="ab")) == Inject()


def test_async_goes_on_while_calls_run() -> None:
    assert next_step(Mode.ASYNC, situation(A, B)) == GoOn()
    assert next_step(Mode.ASYNC, situation(A, B, Text("Meanwhile"))) == GoOn()
    assert next_step(Mode.ASYNC, situation(A, B, arrived="b")) == Inject()


def test_async_pauses_at_a_trap_until_the_first_result() -> None:
    assert next_step(Mode.ASYNC, situation(A, B, Trap())) == pause("ab")
    assert next_step(Mode.ASYNC, situation(A, B, Trap(), arrived="b")) == Inject()


def test_a_trap_holds_although_a_few_tokens_followed_it() -> None:
    assert next_step(Mode.ASYNC, situation(A, Trap(), Text("so"))) == pause("a")


def test_a_session_that_ends_waits_for_its_calls_if_it_asks_for_it() -> None:
    ended = situation(A, EndOfStream())
    assert next_step(Mode.ASYNC, ended, AtEnd.WAIT) == pause("a")
    assert next_step(Mode.ASYNC, ended, AtEnd.LEAVE) == End()
    assert next_step(Mode.ASYNC, situation(Text("42"), EndOfStream())) == End()


@pytest.mark.parametrize("mode", Mode)
def test_a_steering_message_reaches_plain_text_and_the_end_of_a_turn(mode: Mode) -> None:
    assert next_step(mode, situation(Text("Once upon"), queued=True)) == Inject()
    assert next_step(mode, situation(EndOfStream(), queued=True), AtEnd.LEAVE) == Inject()


@pytest.mark.parametrize("mode", Mode)
def test_nobody_waits_for_a_call_without_an_id(mode: Mode) -> None:
    assert next_step(mode, situation(FireAndForget("log"))) == GoOn()
    assert next_step(mode, situation(FireAndForget("log"), EndOfStream())) == End()


def test_no_situation_waits_for_nothing_or_loses_something() -> None:
    for mode, at_end, point, ids, queued, critical in product(
        Mode, AtEnd, Point, ["", "a", "ab"], [False, True], [False, True]
    ):
        pending = frozenset(ids)
        step = next_step(mode, Situation(point, pending, queued, critical), at_end)
        if critical:
            assert step == GoOn()
            continue
        match step:
            case Pause():
                assert step.pending == pending != frozenset()
            case Inject():
                assert queued
            case End():
                assert point is Point.ENDED
                assert not queued
            case GoOn():
                assert point is not Point.ENDED
