"""Processes that `multiprocessing` starts end with whoever started them, killed or not."""

import os
import signal
import subprocess
import sys
from multiprocessing import get_context
from multiprocessing.connection import Connection

import psutil
import pytest

from caesura.processes import end_engine_with_parent, end_with_parent
from support.waiting import HANG_SECONDS, poll

SPAWN = get_context("spawn")


def wait_for_ever(name: str, ready: Connection) -> None:
    if name == "watching":
        end_with_parent()
        end_with_parent()  # a second time changes nothing
    else:
        end_engine_with_parent()
    ready.send(os.getpid())
    ready.recv()


def start_child(name: str, ready: Connection) -> None:
    child = SPAWN.Process(target=wait_for_ever, args=(name, ready), name=name)
    child.start()
    child.join()


@pytest.mark.parametrize("name", ["watching", "EngineCore", "EngineCore_DP1"])
def test_a_child_ends_when_its_parent_is_killed(name: str) -> None:
    ours, theirs = SPAWN.Pipe()
    parent = SPAWN.Process(target=start_child, args=(name, theirs))
    parent.start()
    assert ours.poll(HANG_SECONDS)
    child = psutil.Process(ours.recv())
    parent.kill()
    parent.join(HANG_SECONDS)
    child.wait(HANG_SECONDS)


def test_a_process_that_is_no_engine_outlives_its_parent() -> None:
    ours, theirs = SPAWN.Pipe()
    parent = SPAWN.Process(target=start_child, args=("a user's", theirs))
    parent.start()
    assert ours.poll(HANG_SECONDS)
    child = psutil.Process(ours.recv())
    parent.kill()
    parent.join(HANG_SECONDS)
    assert child.is_running()
    child.kill()


SIMULATION = [
    "--engines", "4", "--rates", "8", "--seeds", "0,1", "--policies", "stock",
    "--horizon", "1000", "--warmup", "1", "--processes", "2",
]  # fmt: skip


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_simulation_leaves_no_process_behind(ending: signal.Signals) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "caesura.cli", "simulate", *SIMULATION], stdout=subprocess.PIPE
    )
    beside: list[psutil.Process] = []

    def has_workers() -> bool:
        """The fork server, its resource tracker, and two workers."""
        beside[:] = psutil.Process(program.pid).children(recursive=True)
        return len(beside) == 4

    assert poll(has_workers)
    program.send_signal(ending)
    program.wait(HANG_SECONDS)
    _, alive = psutil.wait_procs(beside, HANG_SECONDS)
    assert not alive
