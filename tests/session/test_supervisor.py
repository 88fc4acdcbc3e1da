"""Background tasks that die are started again, and that they are down can be seen."""

import asyncio

from prometheus_client import REGISTRY

from caesura.session.supervisor import LONGEST_WAIT_SECONDS, Supervisor
from session.workplace import eventually


def restarts(task: str) -> float:
    return REGISTRY.get_sample_value("caesura_background_task_restarts_total", {"task": task}) or 0


async def test_a_task_that_dies_is_started_again_ever_more_slowly() -> None:
    waits: asyncio.Queue[float] = asyncio.Queue()
    go_on = asyncio.Semaphore(0)
    runs = 0

    async def sleep(seconds: float) -> None:
        waits.put_nowait(seconds)
        await go_on.acquire()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            return  # it has no end of its own: that is an error, too
        if runs < 9:
            raise RuntimeError("broken")
        await asyncio.Event().wait()

    supervisor, before = Supervisor(sleep), restarts("t")
    supervisor.start("t", work)
    waited = []
    for _ in range(8):
        waited.append(await waits.get())
        (problem,) = supervisor.problems()
        assert problem in ("t is down: RuntimeError: broken", "t is down: it has ended")
        go_on.release()
    await eventually(lambda: runs == 9)
    assert supervisor.problems() == []
    assert waited == [1, 2, 4, 8, 16, 32, LONGEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS]
    assert restarts("t") - before == 8
    await supervisor.stop("t")
    await supervisor.stop("nothing of that name")


async def test_a_task_that_is_stopped_while_it_is_down_is_no_problem_any_more() -> None:
    async def work() -> None:
        raise RuntimeError("broken")

    supervisor = Supervisor()
    supervisor.start("t", work)
    await eventually(supervisor.problems)
    await supervisor.stop("t")
    assert supervisor.problems() == []
