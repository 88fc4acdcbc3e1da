"""A loop whose clock jumps."""

import asyncio

import pytest

from caesura.lab.sim.virtual_time import Stuck, run_virtually


def test_the_clock_jumps_to_what_happens_next() -> None:
    async def play() -> list[tuple[str, float]]:
        loop, told = asyncio.get_running_loop(), []

        async def tell(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            told.append((name, loop.time()))

        await asyncio.gather(tell("late", 3e6), tell("early", 2.0), tell("at once", 0))
        return told

    assert run_virtually(play()) == [("at once", 0.0), ("early", 2.0), ("late", 3e6)]


def test_nobody_hangs_where_nothing_can_happen() -> None:
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Stuck):
        run_virtually(wait())
