"""What waits to be injected: in one order, wherever it is."""

import asyncio
import threading

from caesura.cml import Interrupt
from caesura.session.calling import Arrival
from caesura.session.calling.arrivals import Arrivals
from session.calling.byte_model import ByteCodec

CODEC = ByteCodec()
A, B, C = (Arrival(Interrupt(name, "x"), source=name) for name in "abc")


async def test_the_engine_has_the_first_and_the_rest_is_queued() -> None:
    waiting = Arrivals(CODEC, [A, B])
    batch = await waiting.batch()
    assert batch.arrivals == (A, B)
    assert batch.token_ids == tuple(CODEC.interrupts([A.interrupt, B.interrupt]))
    assert waiting.queued == [A, B]
    waiting.send(batch)
    waiting.add(C)
    assert waiting.is_sent
    assert waiting.queued == [C]
    assert waiting.placed() is batch
    assert not waiting.is_sent
    assert (len(waiting), waiting.queued) == (1, [C])


async def test_what_is_recalled_is_queued_before_what_came_later() -> None:
    waiting = Arrivals(CODEC, [A])
    waiting.send(await waiting.batch())
    waiting.add(B)
    waiting.send(await waiting.batch())
    waiting.add(C)
    waiting.recall()
    assert not waiting.is_sent
    assert waiting.queued == [A, B, C]


async def test_a_batch_that_was_refused_leaves_the_others_where_they_are() -> None:
    waiting = Arrivals(CODEC, [A])
    first = await waiting.batch()
    waiting.send(first)
    waiting.add(B)
    second = await waiting.batch()
    waiting.send(second)
    waiting.recall(second)
    assert waiting.queued == [B]
    assert waiting.placed() is first
    waiting.recall(first)  # too late
    assert waiting.queued == [B]


async def test_what_arrives_while_a_batch_is_encoded_is_not_in_it() -> None:
    encoding, may_end = threading.Event(), threading.Event()

    class Slow(ByteCodec):
        def interrupts(self, interrupts):
            encoding.set()
            may_end.wait()
            return super().interrupts(interrupts)

    long = Arrival(Interrupt("a", "x" * 10_000))
    waiting = Arrivals(Slow(), [long])
    batch = asyncio.create_task(waiting.batch())
    await asyncio.to_thread(encoding.wait)
    waiting.add(B)
    may_end.set()
    assert (await batch).arrivals == (long,)
    waiting.send(await batch)
    assert waiting.queued == [B]


def test_only_its_own_errors_are_a_sessions_errors() -> None:
    error = Arrival(Interrupt("c", "no"), is_error=True)
    assert Arrivals(CODEC, [A, error, B]).errors == (error.interrupt,)


async def test_results_are_cut_to_the_room_and_what_the_user_says_is_not() -> None:
    room = 2000
    long = Arrival(Interrupt("a", "y" * 9000))
    waiting = Arrivals(CODEC, [long], lambda: room)
    whole = await waiting.batch()
    assert 1000 < len(whole.token_ids) <= room
    assert b"The result was cut: it has 9000 characters" in bytes(
        token for token in whole.token_ids if token < 256
    )
    assert len((await waiting.batch(beside=1000)).token_ids) <= room - 1000
    waiting.send(whole)
    waiting.add(Arrival(Interrupt("b", "z" * 9000)))
    room = 3000
    assert len((await waiting.batch()).token_ids) <= room - len(whole.token_ids)
    said = Arrivals(CODEC, [Arrival(Interrupt.steering("w" * 3000))], lambda: 500)
    assert len((await said.batch()).token_ids) > 3000
    assert len((await Arrivals(CODEC, [long]).batch()).token_ids) > 9000
