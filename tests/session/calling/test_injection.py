"""What is injected is in the engine or queued, whatever goes wrong on the way."""

import asyncio
import threading

import pytest

from caesura.cml import AtEnd, Call, Interrupt, Mode, Rules
from caesura.session import ContextFull, Sampling
from caesura.session.calling import Arrival, Course, Durations
from caesura.session.calling.arrivals import Arrivals
from caesura.session.calling.generation import Generation
from caesura.session.calling.injection import Injection
from caesura.session.calling.open_calls import OpenCalls
from caesura.session.calling.reading import Reading
from caesura.session.calling.steps import Steps
from fakes import FakeEngine
from session.calling.byte_model import PROMPT, ByteCodec, Refusing, engine

RESULT = Arrival(Interrupt("a", "x"))
LATER = Arrival(Interrupt("b", "y"))
FULL = ContextFull("no room")


class Made:
    """An injection with all that it needs, whose model generates."""

    def __init__(self, of: FakeEngine, codec: ByteCodec | None = None) -> None:
        codec = codec or ByteCodec()
        sampling = Sampling(1000, frames=codec.frame_rules(Mode.ASYNC))
        calls = OpenCalls(Durations())
        self.arrivals = Arrivals(codec, ())
        self.generation = Generation(of, "s", [PROMPT], sampling)
        self.reading = Reading(
            codec.monitor(None, ()), Rules(), calls, self.arrivals, 1000, Course(1)
        )
        steps = Steps(Mode.ASYNC, AtEnd.WAIT, self.reading, calls, self.arrivals)
        self.injection = Injection(self.arrivals, self.generation, self.reading, steps, lambda: 0.0)

    async def begin(self) -> "Made":
        await self.generation.go_on((), 1000, None)
        return self

    async def read(self) -> None:
        """Up to the end of the engine's turn."""
        while self.generation.is_running:
            delta = await self.generation.next_delta()
            self.reading.take(delta, 0.0)


async def test_what_was_sent_is_queued_again_when_the_engine_is_halted() -> None:
    made = await Made(engine("word " * 20)).begin()
    made.arrivals.add(RESULT)
    await made.injection.interrupt()
    assert made.arrivals.queued == []
    made.arrivals.add(LATER)
    await made.injection.halt()
    assert made.arrivals.queued == [RESULT, LATER]
    assert not made.generation.is_running


async def test_what_the_engine_refuses_stays_queued() -> None:
    made = await Made(Refusing([Call("a", "f")], FULL)).begin()
    made.arrivals.add(RESULT)
    with pytest.raises(ContextFull):
        await made.injection.interrupt()
    assert made.arrivals.queued == [RESULT]
    await made.read()
    assert made.arrivals.queued == [RESULT], "nothing was placed"
    assert made.reading.position == len(made.generation.transcript)
    with pytest.raises(ContextFull):
        await made.injection.end_pause()
    assert made.arrivals.queued == [RESULT]
    with pytest.raises(ContextFull):
        await made.injection.begin_turn([PROMPT])
    assert made.arrivals.queued == [RESULT]


async def test_what_is_encoded_when_the_engine_is_halted_is_not_sent() -> None:
    encoding, may_end = threading.Event(), threading.Event()

    class Slow(ByteCodec):
        def interrupts(self, interrupts):
            encoding.set()
            may_end.wait()
            return super().interrupts(interrupts)

    made = await Made(engine("word " * 20), Slow()).begin()
    long = Arrival(Interrupt("a", "x" * 10_000))
    made.arrivals.add(long)
    assert made.injection.may_interrupt
    interrupting = asyncio.create_task(made.injection.interrupt())
    await asyncio.to_thread(encoding.wait)
    assert not made.injection.may_interrupt, "one at a time"
    await made.injection.halt()
    may_end.set()
    await interrupting
    assert made.arrivals.queued == [long]
