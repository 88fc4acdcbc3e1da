"""What each mode does at a call, at a trap and at the end; results at every possible token."""

import asyncio
from itertools import pairwise

import pytest

from caesura.cml import AtEnd, Call, FireAndForget, Interrupt, Mode, Text, Trap
from caesura.session.calling import CallIssued, Ending, Injected, Paused, SentOff
from session.calling.byte_model import compact, eager, engine, written
from session.calling.play import Play, play

A, B, C = (Call(name, "f") for name in "abc")
WAITING, DONE = Text(" One moment, I wait."), Text(" Done.")
ENGINES = pytest.mark.parametrize("make", [engine, eager])
MODES = pytest.mark.parametrize("mode", Mode)


def result(call_id: str) -> Interrupt:
    return Interrupt(call_id, f"result of {call_id}")


@ENGINES
def test_sync_pauses_at_each_call(make) -> None:
    async def scenario() -> None:
        played = await play(make([Text("I look."), A, B, DONE]), Mode.SYNC)
        assert played.pieces == [Text("I look."), A, result("a"), B, result("b"), DONE]
        assert [pause.pending for pause in played.of(Paused)] == [{"a"}, {"b"}]
        assert played.ended.ending is Ending.COMPLETED

    asyncio.run(scenario())


@ENGINES
def test_adjacent_calls_run_together_in_parallel_mode(make) -> None:
    async def scenario() -> None:
        script = [A, Text(" \n"), B, Text("I wait."), C, DONE]
        far = {"a": 10_001, "b": 10_000, "c": 10_002}
        played = await play(make(script), Mode.SYNC_PARALLEL, arrives=far)
        assert played.pieces == [
            *(A, Text(" \n"), B, result("b"), result("a")),
            *(Text("I wait."), C, Text(" "), result("c"), Text("Done.")),
        ]
        assert [pause.pending for pause in played.of(Paused)] == [{"a", "b"}, {"c"}]
        assert [len(event.arrivals) for event in played.of(Injected)] == [2, 1]

    asyncio.run(scenario())


@ENGINES
def test_async_goes_on_and_waits_at_a_trap_for_the_first(make) -> None:
    async def scenario() -> None:
        script = [A, B, WAITING, Trap(), Text("One."), Trap(), DONE]
        far = {"a": 10_001, "b": 10_000}
        played = await play(make(script), Mode.ASYNC, arrives=far)
        assert played.pieces == [
            *(A, B, WAITING, Trap(), result("b")),
            *(Text("One."), Trap(), result("a"), DONE),
        ]
        assert [pause.pending for pause in played.of(Paused)] == [{"a", "b"}, {"a"}]

    asyncio.run(scenario())


@ENGINES
def test_a_trap_does_not_pause_if_a_result_is_there(make) -> None:
    async def scenario() -> None:
        inside_the_trap = len(written(compact([A, WAITING]))) + 1
        script = [A, WAITING, Trap(), DONE]
        played = await play(make(script), Mode.ASYNC, arrives={"a": inside_the_trap})
        assert played.pieces == [A, WAITING, Trap(), result("a"), DONE]
        assert not played.of(Paused)

    asyncio.run(scenario())


@ENGINES
@MODES
def test_a_call_without_an_id_is_sent_off_and_never_waited_for(make, mode: Mode) -> None:
    async def scenario() -> None:
        log = FireAndForget("log", {"x": 1})
        played = await play(make([log, Text("Noted."), log]), mode)
        assert played.pieces == [log, Text("Noted."), log]
        assert [event.call for event in played.of(SentOff)] == [log, log]
        assert not played.of(Paused)
        assert played.ended.ending is Ending.COMPLETED

    asyncio.run(scenario())


@ENGINES
@pytest.mark.parametrize("mode", [Mode.SYNC, Mode.SYNC_PARALLEL])
def test_a_call_at_the_end_is_waited_for(make, mode: Mode) -> None:
    async def scenario() -> None:
        played = await play(make([A]), mode, arrives={"a": 10_000})
        assert played.pieces == [A, result("a")]
        assert [pause.pending for pause in played.of(Paused)] == [{"a"}]

    asyncio.run(scenario())


@ENGINES
@pytest.mark.parametrize(("at_end", "seen"), [(AtEnd.WAIT, True), (AtEnd.LEAVE, False)])
def test_async_waits_at_the_end_if_it_is_to(make, at_end: AtEnd, seen: bool) -> None:
    async def scenario() -> None:
        arrives = {"a": 10_000}
        played = Play(make([A, DONE]), Mode.ASYNC, arrives=arrives, at_end=at_end)
        await played.run()
        played.check()
        assert (result("a") in played.pieces) is seen
        assert played.ended.pending == (frozenset() if seen else {"a"})
        assert bool(played.of(Paused)) is seen

    asyncio.run(scenario())


SCRIPTS = {
    "text": [Text("A few words before. "), A, WAITING, B, Text(" And words"), Trap(), DONE],
    "adjacent": [A, B, Trap(), Text("It is so. "), C, DONE],
    "no words": [A, Text("12345678901234567890"), B, FireAndForget("g"), Trap(), DONE],
}


@ENGINES
@MODES
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_result_may_arrive_at_every_token(make, mode: Mode, name: str) -> None:
    script = SCRIPTS[name]
    text = "".join(piece.text for piece in script if isinstance(piece, Text))
    calls = [p for p in script if isinstance(p, Call)]
    length = len(written(compact(script)))

    async def scenario() -> None:
        for at in range(length + 2):
            together, crossed = {"a": at, "b": at}, {"b": at, "a": length - at, "c": at}
            arrives = together if make is engine else crossed
            played = await play(make(script), mode, arrives=arrives)
            assert [event.call for event in played.of(CallIssued)] == calls
            assert played.text == text
            assert len(played.injected) == len(calls) + len(played.errors)
            if mode is Mode.SYNC:
                assert_each_call_is_answered_at_once(played)

    asyncio.run(scenario())


def assert_each_call_is_answered_at_once(played: Play) -> None:
    for piece, following in pairwise(played.pieces):
        if isinstance(piece, Call):
            assert following == result(piece.id)


@MODES
@pytest.mark.parametrize("name", ["text", "no words"])
def test_the_user_may_speak_at_every_token(mode: Mode, name: str) -> None:
    script = SCRIPTS[name]
    length = len(written(compact(script)))

    async def scenario() -> None:
        for at in range(length + 1):
            played = await play(eager(script), mode, arrives={"a": 20}, steering={at: "No [END]"})
            assert Interrupt.steering("No [END]") in played.pieces
            assert played.ended.ending is Ending.COMPLETED

    asyncio.run(scenario())
