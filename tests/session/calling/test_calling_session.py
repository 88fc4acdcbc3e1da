"""Mistakes, limits, results and messages, and further turns."""

import asyncio

import pytest

from caesura.cml import AtEnd, Call, ErrorKind, Interrupt, KnownTools, Mode, Point, Text, Trap
from caesura.session import NotPaused, Sampling, SessionClosed
from caesura.session.calling import (
    CallIssued,
    Checkpoint,
    Course,
    Durations,
    Ended,
    Ending,
    FirstToken,
    Injected,
    Mistake,
    Paused,
    known_tools,
)
from session.calling.byte_model import PROMPT, ByteCodec, compact, eager, engine, shown, written
from session.calling.play import Play, calling, play
from session.workplace import eventually

A, B = Call("a", "f"), Call("b", "f")
DONE = Text(" Done.")
MODES = pytest.mark.parametrize("mode", Mode)
ENGINES = pytest.mark.parametrize("make", [engine, eager])


def kinds(played: Play) -> list[ErrorKind]:
    return [event.error.kind for event in played.of(Mistake)]


@ENGINES
@MODES
@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ('[CALL]a[HEAD]{"name":[END] So.', ErrorKind.MALFORMED_JSON),
        ('[CALL]a[HEAD]{"name":"g"}[END] So.', ErrorKind.UNKNOWN_TOOL),
        ('[CALL]a[HEAD]{"name":"f","arguments":{"x":""}}[END] So.', ErrorKind.INVALID_ARGUMENTS),
        ('[CALL]1[HEAD]{"name":"f"}[END] So.', ErrorKind.MALFORMED_ID),
        ('[CALL]{"name":"g"}[END] So.', ErrorKind.UNKNOWN_TOOL),
        ("[CALL]a[HEAD]{}", ErrorKind.UNFINISHED_FRAME),
        ("[TRAP]now[END] So.", ErrorKind.UNEXPECTED_TEXT),
        (" A [END] lost.", ErrorKind.UNEXPECTED_MARKER),
    ],
)
def test_the_model_is_told_of_its_mistake_and_goes_on(make, mode, script, kind) -> None:
    tools = known_tools(
        [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "parameters": {"properties": {"x": {"type": "integer"}}},
                },
            }
        ]
    )

    async def scenario() -> None:
        played = await Play(make(script), mode, tools=tools).run()
        assert kinds(played) == [kind]
        assert played.injected == played.errors
        assert played.ended.ending is Ending.COMPLETED
        assert not played.of(CallIssued)

    asyncio.run(scenario())


@MODES
def test_an_id_is_used_once_also_after_a_restart(mode: Mode) -> None:
    async def scenario() -> None:
        played = await Play(eager([A, Text(" And"), A, DONE]), mode).run()
        assert len(played.of(CallIssued)) == 1
        assert kinds(played) == [ErrorKind.DUPLICATE_ID]
        for start in (
            Checkpoint([PROMPT], used_ids={"a"}),
            Checkpoint([PROMPT], Course(1, refused_ids=("a",))),
            Checkpoint([PROMPT], pending=[A]),
        ):
            again = Play(eager([A, DONE]), mode, start=start)
            assert again.session.deliver(Interrupt("a", "1")) == bool(start.pending)
            await again.run()
            assert kinds(again) == [ErrorKind.DUPLICATE_ID]

    asyncio.run(scenario())


@MODES
def test_one_idle_trap_is_told_and_a_second_ends_the_session(mode: Mode) -> None:
    async def scenario() -> None:
        once = await play(eager([Text("So."), Trap(), DONE]), mode)
        assert kinds(once) == [ErrorKind.NOTHING_PENDING]
        assert once.ended.ending is Ending.COMPLETED
        twice = await Play(eager([Trap(), Text("So."), Trap(), DONE]), mode).run()
        assert twice.ended.ending is Ending.FAILED
        assert "no call is pending" in twice.ended.message
        assert not twice.session._generation.is_running

    asyncio.run(scenario())


def test_too_many_mistakes_end_the_session() -> None:
    async def scenario() -> None:
        script = "[CALL]{}[END] Oh." * 10
        played = await Play(eager(script), Mode.ASYNC).run()
        assert played.ended.ending is Ending.FAILED
        assert len(played.of(Mistake)) == 9

    asyncio.run(scenario())


@ENGINES
@MODES
def test_a_turn_has_its_tokens_once_however_often_it_is_broken(make, mode: Mode) -> None:
    script = [Text("Some words. "), A, Text(" More words. "), B, Text(" And many words more.")]
    length = len(written(compact(script)))

    async def scenario() -> None:
        for limit in range(1, length + 3):
            sampling = Sampling(max_tokens=limit)
            steering = {4: "x", 15: "y", 30: "z"}
            played = await Play(make(script), mode, sampling=sampling, steering=steering).run()
            assert played.session.generated_tokens <= limit
            complete = limit > length  # the end of the sequence takes a token
            assert played.ended.ending is (Ending.COMPLETED if complete else Ending.LIMIT)
            assert played.session.course.point is Point.ENDED
            if not complete:
                assert str(limit) in played.ended.message

    asyncio.run(scenario())


def test_each_turn_has_all_its_tokens() -> None:
    async def scenario() -> None:
        script = "A few words."
        sampling = Sampling(max_tokens=len(script) + 1)
        session = calling(eager(script, script), Mode.ASYNC, sampling=sampling)
        for _ in range(2):
            events = [event async for event in session.events()]
            assert events[-1].ending is Ending.COMPLETED
            if len(session.transcript) == 1 + len(script):
                session.prompt([PROMPT])
        assert shown(session.transcript) == f"<prompt>{script}" * 2

    asyncio.run(scenario())


def test_what_nobody_waits_for_is_not_taken() -> None:
    async def scenario() -> None:
        session = calling(eager([DONE]), Mode.ASYNC)
        assert not session.deliver(Interrupt("a", "of no call"))
        assert session.steer("hello")
        await session.close()
        assert not session.steer("hello")
        assert [event async for event in session.events()] == []
        with pytest.raises(SessionClosed):
            session.prompt([PROMPT])

    asyncio.run(scenario())


@MODES
def test_the_next_turn_begins_with_what_arrived_since(mode: Mode) -> None:
    async def scenario() -> None:
        session = calling(eager([A, DONE], " Well."), mode, at_end=AtEnd.LEAVE)
        with pytest.raises(NotPaused, match="steer"):
            session.prompt([PROMPT])
        async for event in session.events():
            if isinstance(event, Paused):
                session.deliver(Interrupt("a", "1"))
        before = len(session.transcript)
        late = Interrupt("a", "1") if session.pending else Interrupt.steering("1")
        assert session.deliver(late)
        session.prompt([PROMPT])
        events = [event async for event in session.events()]
        assert [a.interrupt for a in events[0].arrivals] == [late]
        assert events[0].position == before
        assert shown(session.transcript[before:]) == (f"[INTR]{late.id}[HEAD]1[END]<prompt> Well.")
        assert events[-1].ending is Ending.COMPLETED
        assert events[-1].position == len(session.transcript)
        assert session.generated_tokens == len(" Well.")

    asyncio.run(scenario())


def test_a_long_result_is_encoded_beside_what_goes_on() -> None:
    async def scenario() -> None:
        session = calling(eager([A, Text(" word" * 50), Trap(), DONE]), Mode.ASYNC)
        async for event in session.events():
            if isinstance(event, CallIssued):
                session.deliver(Interrupt("a", "x" * 100_000))
                session.steer("after it")
            if isinstance(event, Ended):
                ended = event
        assert ended.ending is Ending.COMPLETED
        text = shown(session.transcript)
        assert text.index("x" * 100_000) < text.index("after it")

    asyncio.run(scenario())


def test_the_engine_is_told_what_a_pause_waits_for() -> None:
    async def scenario() -> None:
        now = 100.0
        durations = Durations({"slow": 5.0})
        durations.record(Call("x", "quick"), 2.0)
        for mode, remaining in ((Mode.ASYNC, 2.0), (Mode.SYNC_PARALLEL, 5.0)):
            fake = engine([Call("a", "slow"), Call("b", "quick"), Trap()])
            session = calling(fake, mode, expectations=durations, session_id="s", clock=lambda: now)
            async for event in session.events():
                if isinstance(event, Paused):
                    assert event.remaining_seconds == remaining
                    break
            stream = fake.streams["s"]
            await eventually(lambda stream=stream: stream.reports)
            assert stream.reports == [(None, remaining)]
            assert stream.endpoints[-1] == "quick+slow"
            await session.close()

    asyncio.run(scenario())


def test_a_pause_has_its_name_before_it_begins_and_waits_for_the_human_who_is_asked() -> None:
    async def scenario() -> None:
        fake = engine([Call("a", "slow"), Text(" goes on"), Trap(), Text("done")])
        session = calling(fake, Mode.ASYNC, session_id="s")
        async for event in session.events():
            if isinstance(event, CallIssued):
                stream = fake.streams["s"]
                await eventually(lambda stream=stream: stream.endpoints[-1] == "slow")
                assert not stream.reports, "it generates still"
            if isinstance(event, Paused):
                session.asks("a", True)
                break
        happening = asyncio.create_task(anext(aiter(session.events())))
        await eventually(lambda: stream.endpoints[-1] == "human")
        session.asks("a", False)
        await eventually(lambda: stream.endpoints[-1] == "slow")
        happening.cancel()
        await asyncio.gather(happening, return_exceptions=True)
        await session.close()

    asyncio.run(scenario())


def test_a_schema_that_refers_elsewhere_is_refused() -> None:
    function = {"name": "f", "parameters": {"properties": {"x": {"$ref": "http://nowhere/x"}}}}
    with pytest.raises(ValueError, match="http://nowhere/x"):
        known_tools([{"type": "function", "function": function}])


def test_first_tokens_are_told() -> None:
    async def scenario() -> None:
        played = await play(engine([A, Trap(), DONE]), Mode.ASYNC, arrives={"a": 10_000})
        first, second = played.of(FirstToken)
        (injected,) = played.of(Injected)
        assert first.position == 1
        assert second.position == injected.position + injected.tokens

    asyncio.run(scenario())


def test_tools_and_definitions() -> None:
    accepting = KnownTools({"f"})
    assert ByteCodec().monitor(accepting, ()).feed(written("x"))
    with pytest.raises(ValueError, match="function"):
        known_tools([{"type": "function"}])
    with pytest.raises(ValueError, match="no JSON schema"):
        known_tools([{"type": "function", "function": {"name": "f", "parameters": [1]}}])
