"""Sessions that go on where another was left."""

import asyncio
from dataclasses import replace

import pytest

from caesura.cml import Call, Interrupt, Marker, Mode, Point, Text, Trap
from caesura.session import Sampling
from caesura.session.calling import CallIssued, Checkpoint, Course, Ending, Paused, TextWritten
from session.calling.byte_model import EOS, MARKERS, PROMPT, compact, eager, engine, written
from session.calling.play import Play, calling, until

A, B = Call("a", "f"), Call("b", "f")
DONE = Text(" Done.")
MODES = pytest.mark.parametrize("mode", Mode)
ENGINES = pytest.mark.parametrize("make", [engine, eager])


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
