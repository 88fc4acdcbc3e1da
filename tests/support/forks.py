"""Processes in which vLLM is imported from the start: forks of one that has imported it.

The import takes longer than all else that an engine or a server does before it serves.
"""

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import reduction, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.forkserver import _forkserver as the_server
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from caesura.variables import environment
from support.waiting import HANG_SECONDS

IMPORTED = [
    "caesura.cli.main",
    "caesura.engine.connector",
    "caesura.engine.scheduler",
    "caesura.engine.serving.serve",
    "caesura.server.plugin",
    "vllm.entrypoints.cli.serve",
    "vllm.entrypoints.openai.api_server",
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
]


class _Stream:
    """A file descriptor that goes along with what is sent to another process."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __getstate__(self) -> object:
        return reduction.DupFd(self.descriptor)

    def __setstate__(self, duplicate) -> None:
        self.descriptor = duplicate.detach()


class Fork(ForkServerProcess):
    """A process with the environment and the output of the one that starts it, as usual.

    It can start others of its kind.

    Attributes:
        environment: its environment variables, if they are others.
        output: descriptors of its standard output and error output.
    """

    environment: Mapping[str, str] | None = None
    output: tuple[int, int] = (1, 2)

    def start(self) -> None:
        start_importing()
        self._server = the_server._forkserver_address
        self._environment = dict(os.environ if self.environment is None else self.environment)
        self._streams = [_Stream(descriptor) for descriptor in self.output]
        super().start()

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self._environment)
        for descriptor, stream in enumerate(self._streams, start=1):
            os.dup2(stream.descriptor, descriptor)
            os.close(stream.descriptor)
        # Children use the same server, as the module says they do; it would start another one.
        the_server._forkserver_address = self._server
        the_server.ensure_running = resource_tracker.ensure_running
        super().run()


class Forks(ForkServerContext):
    """Processes of this module, for what takes a context of `multiprocessing`."""

    Process = Fork


FORKS = Forks()


def start_importing() -> None:
    """Start the process that imports, unless it runs; returns before it has imported."""
    the_server.set_forkserver_preload(IMPORTED)
    # Engines are killed, and what they leave in the system is cleaned up without a word about it.
    with environment({"PYTHONWARNINGS": "ignore:resource_tracker:UserWarning"}):
        resource_tracker.ensure_running()
    the_server.ensure_running()


class Program:
    """A Python program in a fork, with the methods of `subprocess.Popen`.

    Args:
        command: `caesura` or a script, and its arguments.
        directory: where it runs.
        output: descriptors of its standard output and error output.
        environment: its environment variables; those of this process if None.
    """

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        output: tuple[int, int],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = command
        self._process = Fork(target=_run, args=(list(command), directory))
        self._process.environment = environment
        self._process.output = output
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._command, timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_forked(
    *command: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A program in a fork, with the result of `subprocess.run`."""
    with TemporaryFile("w+") as out, TemporaryFile("w+") as error:
        output = (out.fileno(), error.fileno())
        code = Program(command, Path.cwd(), output, environment).wait(HANG_SECONDS)
        out.seek(0)
        error.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), error.read())


def _run(command: list[str], directory: Path) -> None:
    os.chdir(directory)
    sys.argv = command
    with engines_forked():
        if command[0] == "caesura":
            from caesura.cli.main import main

            main()
        else:
            runpy.run_path(command[0], run_name="__main__")


@contextmanager
def engines_forked() -> Iterator[None]:
    """Engines that this process starts begin as forks: vLLM spawns them where it uses the CPU."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("vllm.v1.engine.utils.get_mp_context", lambda: FORKS)
        yield
