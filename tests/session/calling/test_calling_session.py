"""Mistakes, limits, cancellation, further turns, and sessions that go on elsewhere."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from caesura.cml import (
    AtEnd,
    Call,
    ErrorKind,
    FireAndForget,
    Interrupt,
    KnownTools,
    Marker,
    Mode,
    Point,
    Text,
    Trap,
)
from caesura.session import (
    ContextFull,
    EngineFailed,
    NotPaused,
    Sampling,
    SessionClosed,
    SessionDetached,
)
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
    TextWritten,
    known_tools,
)
from cml_transcript import read_transcript
from session.calling.byte_model import (
    EOS,
    MARKERS,
    PROMPT,
    ByteCodec,
    EagerEngine,
    EagerStream,
    Refusing,
    compact,
    eager,
    engine,
    shown,
    written,
)
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


async def until(session, kind: type) -> object:
    async with aclosing(session.events()) as events:
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"no {kind}")


def test_a_closed_session_goes_on_from_its_course() -> None:
    script = [Text("I ask. "), A, B, Text(" A moment."), Trap(), Text(" One."), Trap(), DONE]

    async def scenario(stops) -> None:
        first = calling(eager(script), Mode.ASYNC)
        await until(first, stops)
        await first.close()
        calls = [A, B] if stops is Paused else [A] if stops is CallIssued else []
        start = Checkpoint(first.transcript, first.course, calls)
        later = {"a": 10_000, "b": 10_001}
        again = Play(eager(script), Mode.ASYNC, start=start, arrives=later)
        again.steer("quick")
        await again.run()
        assert again.injected == again.delivered
        assert [a for a in again.pieces if isinstance(a, Call)] == [A, B]
        assert {call.id for call in again.pieces if isinstance(call, Interrupt)} == {
            *("a", "b", "user")
        }
        assert again.ended.ending is Ending.COMPLETED

    for stops in (CallIssued, Paused, TextWritten):
        asyncio.run(scenario(stops))


@MODES
def test_a_restored_session_waits_where_it_waited(mode: Mode) -> None:
    async def scenario() -> None:
        prefix = [PROMPT, *written(compact([A, Trap()]))]
        course = Course(len(prefix), Point.TRAPPED, generated_tokens=len(prefix) - 1)
        start = Checkpoint(prefix, course, pending=[A])
        fake = eager([A, Trap(), DONE])
        played = await Play(fake, mode, start=start).run()
        assert isinstance(played.events[0], Paused)
        assert played.injected == [Interrupt("a", "result of a")]
        assert len(fake.streams) == 1
        ended = Checkpoint(prefix, replace(course, point=Point.ENDED))
        played = await Play(eager([A, Trap()]), mode, start=ended).run()
        assert played.ended.position == len(prefix)

    asyncio.run(scenario())


def test_a_restored_session_keeps_its_budget_and_its_reasoning() -> None:
    async def scenario() -> None:
        prefix = [PROMPT, 261, *b"Hm, "]
        start = Checkpoint(prefix, Course(len(prefix), generated_tokens=5, reasoning=True))
        script = "Hm, 12[CALL]34"  # in a reasoning block nothing is a call

        class Model:
            def __call__(self, transcript) -> int:
                own = len(transcript) - len(prefix)
                rest = written(script)[4:]
                return rest[own] if own < len(rest) else 263

        fake = eager("")
        fake.model = Model()
        session = calling(fake, Mode.ASYNC, start=start, sampling=Sampling(max_tokens=10))
        events = [event async for event in session.events()]
        text = "".join(event.text for event in events if isinstance(event, TextWritten))
        assert text == "12[CALL]34"
        assert session.generated_tokens == 10
        assert session.transcript[-1] == ord("4")

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


FULL = ContextFull("a context of 99 tokens leaves no room")
FAILED = EngineFailed("it burns")


@pytest.mark.parametrize("pause", ["", "[TRAP][END]"])
def test_a_result_that_does_not_fit_ends_the_session_and_is_kept(pause: str) -> None:
    async def scenario() -> None:
        script = '[CALL]a[HEAD]{"name":"f"}[END]' + pause + " word" * 100
        session = calling(Refusing(script, FULL), Mode.ASYNC)
        async for event in session.events():
            if isinstance(event, Paused) or (isinstance(event, TextWritten) and not pause):
                session.deliver(Interrupt("a", "long"))
        assert event.ending is Ending.LIMIT
        assert event.message == str(FULL)
        assert session.has_queued
        await session.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("pause", ["", "[TRAP][END]"])
def test_a_failing_engine_is_told_to_the_owner(pause: str) -> None:
    async def scenario() -> None:
        script = '[CALL]a[HEAD]{"name":"f"}[END]' + pause + " word" * 100
        session = calling(Refusing(script, FAILED), Mode.ASYNC)

        async def run() -> None:
            async for event in session.events():
                if isinstance(event, Paused) or (isinstance(event, TextWritten) and not pause):
                    session.deliver(Interrupt("a", "1"))

        with pytest.raises(EngineFailed, match="it burns"):
            await run()
        assert session.has_queued
        await session.close()

    asyncio.run(scenario())


class LettingGo(EagerEngine):
    """An engine that lets its first session go when it is paused, and tells it late or early."""

    def __init__(self, script: str, early: bool) -> None:
        fake = eager(script)
        super().__init__(EOS, fake.model, fake.text_of)
        self.early = early

    async def open(self, *args, **options):
        stream = await super().open(*args, **options)
        return stream if len(self.streams) > 1 else Detached(stream, self.early)


class Detached:
    def __init__(self, stream: EagerStream, early: bool) -> None:
        self._stream, self._early = stream, early
        self._gone = asyncio.Event()

    async def deltas(self):
        async for delta in self._stream.deltas():
            yield delta
            if delta.stop is not None:
                break
        await self._gone.wait()
        raise SessionDetached("gone")

    async def extend(self, token_ids, sampling, endpoint=None):
        first = not self._gone.is_set()
        self._gone.set()
        if self._early or not first:
            raise SessionDetached("gone")

    async def progress(self, **hints):
        pass

    async def name_next_pause(self, endpoint):
        pass

    async def close(self):
        await self._stream.close()


@pytest.mark.parametrize("early", [False, True])
def test_a_session_that_the_engine_lets_go_loses_nothing(early: bool) -> None:
    async def scenario() -> None:
        script = '[CALL]a[HEAD]{"name":"f"}[END][TRAP][END] One word more.'
        fake = LettingGo(script, early)
        session = calling(fake, Mode.ASYNC)
        async for event in session.events():
            if isinstance(event, Paused):
                session.deliver(Interrupt("a", "1"))
            if isinstance(event, Injected) and event.arrivals[0].interrupt.id == "a":
                session.steer("at once")
        assert event.ending is Ending.COMPLETED
        pieces = read_transcript(shown(session.transcript[1:]))
        interrupts = [piece for piece in pieces if isinstance(piece, Interrupt)]
        assert interrupts == [Interrupt("a", "1"), Interrupt.steering("at once")]
        assert event.position == len(session.transcript)
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


def test_closing_in_the_middle_leaves_no_task() -> None:
    async def scenario() -> None:
        session = calling(eager([Text("word " * 100), FireAndForget("f")]), Mode.ASYNC)
        await until(session, TextWritten)
        session.steer("hello")
        await session.close()
        await session.close()
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if not task.done()]

    asyncio.run(scenario())


class Gated(EagerEngine):
    """An engine that takes tokens when it may."""

    def __init__(self, script: str) -> None:
        fake = eager(script)
        super().__init__(EOS, fake.model, fake.text_of)
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def open(self, *args, **options):
        stream = await super().open(*args, **options)
        extend = stream.extend

        async def slowly(*args, **options) -> None:
            self.asked.set()
            await self.may.wait()
            await extend(*args, **options)

        stream.extend = slowly
        return stream


def test_a_session_that_is_closed_while_it_is_resumed_ends() -> None:
    async def scenario() -> None:
        fake = Gated('[CALL]a[HEAD]{"name":"f"}[END][TRAP][END] Done.')
        session = calling(fake, Mode.ASYNC)

        async def follow() -> list:
            events = []
            async for event in session.events():
                events.append(event)
                if isinstance(event, Paused):
                    session.deliver(Interrupt("a", "1"))
            return events

        following = asyncio.create_task(follow())
        await fake.asked.wait()
        await session.close()
        fake.may.set()
        assert isinstance((await following)[-1], Paused)
        assert not fake.open_ids

    asyncio.run(scenario())


def test_the_engine_knows_that_a_session_goes_on_inside_a_reasoning_block() -> None:
    async def scenario() -> None:
        prefix = [PROMPT, 261, *b"Hm, "]
        start = Checkpoint(prefix, Course(len(prefix), generated_tokens=5, reasoning=True))
        rest = [MARKERS[Marker.TRAP], MARKERS[Marker.END], 262, *b"Done."]

        def model(transcript) -> int:
            own = len(transcript) - len(prefix)
            return rest[own] if own < len(rest) else EOS

        fake = eager("")
        fake.model = model
        session = calling(fake, Mode.ASYNC, start=start)
        events = [event async for event in session.events()]
        assert events[-1].ending is Ending.COMPLETED
        assert len(fake.streams) == 1, "no trap ended the engine's turn"
        await session.close()

    asyncio.run(scenario())
