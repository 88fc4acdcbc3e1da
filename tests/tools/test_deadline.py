import asyncio

import pytest

from caesura.tools.call import CallEnding
from caesura.tools.deadline import Deadline
from caesura.tools.failure import AttemptFailed
from support.waiting import pass_time


async def test_time_stands_still_while_any_pause_lasts() -> None:
    async with Deadline(60) as deadline:
        with deadline.paused():
            with deadline.paused():
                pass
            await pass_time(100)  # longer than the limit


async def test_after_a_pause_the_rest_of_the_time_counts() -> None:
    async def pause_and_hang() -> None:
        async with Deadline(60) as deadline:
            await pass_time(50)
            with deadline.paused():
                await pass_time(100)
            await pass_time(9)
            await pass_time(2)

    with pytest.raises(AttemptFailed, match="no result within 60 seconds") as caught:
        await pause_and_hang()
    assert caught.value.ending is CallEnding.TIMED_OUT
    assert caught.value.transient


async def test_no_limit_is_no_limit() -> None:
    async with Deadline(0) as deadline:
        with deadline.paused():
            await asyncio.sleep(0)


async def test_a_timeout_of_the_tools_own_is_not_taken_for_this_one() -> None:
    with pytest.raises(TimeoutError, match="mine"):
        async with Deadline(60):
            raise TimeoutError("mine")


async def test_cancelling_from_outside_stays_cancelling() -> None:
    async def wait() -> None:
        async with Deadline(60):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
