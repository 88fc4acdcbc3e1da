"""Calls as functions of the caller, and what is recorded of them."""

import asyncio
from itertools import pairwise

from caesura.cml import AtEnd, Call, FireAndForget, Interrupt, Mode, Text, Trap
from caesura.session.calling import Driver, Ending, SpanKind
from session.calling.byte_model import eager, engine
from session.calling.play import calling

SLOW, QUICK, LOG = Call("a", "slow"), Call("b", "quick"), FireAndForget("log")
SCRIPT = [Text("I ask. "), SLOW, QUICK, LOG, Text(" A moment. Done.")]


class Tools:
    """Tools that answer when they are told to; `quick` before `slow`."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.quick_done = asyncio.Event()

    async def __call__(self, call: Call | FireAndForget) -> str:
        self.called.append(call.name)
        if call.name == "slow":
            await self.quick_done.wait()
        elif call.name == "quick":
            self.quick_done.set()
        return call.name.upper()


def test_calls_run_while_the_model_goes_on() -> None:
    async def scenario() -> None:
        tools = Tools()
        session = calling(engine(SCRIPT), Mode.ASYNC)
        driver = Driver(session, tools)
        timeline = await driver.run()
        assert tools.called == ["slow", "quick", "log"]
        assert timeline.ending is Ending.COMPLETED
        assert timeline.text == "I ask.  A moment. Done."
        assert [call.id for call in timeline.calls] == ["a", "b", None]
        for call in timeline.calls:
            assert call.opened_at <= call.issued_at <= call.started_at <= call.finished_at
        for call in timeline.calls[:2]:
            assert call.finished_at <= call.injected_at <= timeline.ended_at
            assert call.generation_seconds >= 0
            assert call.execution_seconds >= 0
            assert call.tokens > 10
        assert timeline.began_at <= timeline.first_token_at
        assert timeline.seconds > 0

    asyncio.run(scenario())


def test_spans_have_no_gaps() -> None:
    async def scenario() -> None:
        held = asyncio.Event()

        async def execute(call) -> str:
            await held.wait()
            return ""

        session = calling(eager([SLOW, Trap(), Text(" Done.")]), Mode.ASYNC)
        driver = Driver(session, execute)
        async for event in driver.events():
            if type(event).__name__ == "Paused":
                held.set()
        spans = driver.timeline.spans
        assert [span.kind for span in spans] == [
            *(SpanKind.GENERATING, SpanKind.PAUSED, SpanKind.GENERATING)
        ]
        assert spans[0].began_at == driver.timeline.began_at
        assert spans[-1].ended_at == driver.timeline.ended_at
        assert all(one.ended_at == next_one.began_at for one, next_one in pairwise(spans))
        assert driver.timeline.traps == 1

    asyncio.run(scenario())


def test_a_tool_that_fails_tells_the_model() -> None:
    async def scenario() -> None:
        async def execute(call) -> str:
            raise RuntimeError("out of order")

        session = calling(eager([SLOW, LOG, Trap(), Text(" Done.")]), Mode.ASYNC)
        timeline = await Driver(session, execute).run()
        (arrival,) = timeline.injections[0].arrivals
        assert arrival.interrupt == Interrupt.of_failure("a", "failed", "out of order")
        assert timeline.calls[0].failed
        assert timeline.ending is Ending.COMPLETED

    asyncio.run(scenario())


def test_a_call_that_nobody_waits_for_is_completed() -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def execute(call) -> str:
            await ended.wait()
            return ""

        driver = Driver(calling(eager([LOG]), Mode.ASYNC), execute)
        async for event in driver.events():
            if type(event).__name__ == "Ended":
                ended.set()
        (call,) = driver.timeline.calls
        assert call.finished_at >= driver.timeline.ended_at
        assert driver.timeline.generated_tokens > 5

    asyncio.run(scenario())


def test_calls_that_are_left_are_cancelled() -> None:
    async def scenario() -> None:
        cancelled = []

        async def execute(call) -> str:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(call.name)
                raise
            return ""

        session = calling(eager([SLOW, Text(" A moment. Done.")]), Mode.ASYNC, at_end=AtEnd.LEAVE)
        timeline = await Driver(session, execute).run()
        assert cancelled == ["slow"]
        assert timeline.calls[0].finished_at is None
        assert timeline.calls[0].execution_seconds is None

    asyncio.run(scenario())
