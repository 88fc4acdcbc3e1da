"""`caesura serve` in a process of its own, for tests over HTTP."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import httpx
import openai
import pytest

from caesura.engine.serving.serve import argument_values
from support.environment import AT_START
from support.forks import Program
from support.waiting import poll

TESTS = Path(__file__).parents[2]


class Server:
    """A server that runs.

    Attributes:
        process: its process.
        url: where it is.
    """

    def __init__(
        self, process: subprocess.Popen[bytes] | Program, port: int, keys: Sequence[str] = ()
    ) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self._headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}

    def client(self, api_key: str = "none") -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=api_key, max_retries=0)

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric over the label sets that match."""
        total = 0.0
        for line in httpx.get(f"{self.url}/metrics", headers=self._headers).text.splitlines():
            match = re.match(rf"caesura:{name}(?:_total)?\{{(.*)\}} (\S+)$", line)
            if match and all(f'{key}="{value}"' in match[1] for key, value in labels.items()):
                total += float(match[2])
        return total

    def wait_for(self, name: str, value: float, **labels: str) -> float:
        """Metrics travel with engine steps: poll until the value is there."""
        poll(lambda: self.metric(name, **labels) == value, seconds=60)
        return self.metric(name, **labels)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def serving(
    model: str,
    arguments: Sequence[str],
    log: Path,
    *,
    port: int | None = None,
    start: Callable[..., subprocess.Popen[bytes] | Program] = Program,
    **environment: str,
) -> Iterator[Server]:
    """Start `caesura serve` and stop it again; its modules include those of the tests.

    Args:
        model, arguments: what is served, and how.
        log: where its output goes; sessions are kept in the same folder.
        port: where it listens; any if None.
        start: starts its process; `plain_program` imports vLLM twice, as a user's server does.
        environment: variables of its process.
    """
    port = port or free_port()
    path = os.pathsep.join([str(TESTS), AT_START.get("PYTHONPATH", "")])
    command = ["caesura", "serve", model, "--port", str(port), "--host", "127.0.0.1", *arguments]
    with log.open("wb") as file:
        output = (file.fileno(), file.fileno())
        variables = AT_START | {"PYTHONPATH": path} | environment
        process = start(command, log.parent, output, variables)
    server = Server(process, port, argument_values(arguments, "--api-key") or ())
    try:
        poll(lambda: process.poll() is not None or _is_healthy(server))
        if not _is_healthy(server):
            pytest.fail(f"the server did not start:\n{log.read_text()[-4000:]}")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def plain_program(
    command: Sequence[str],
    directory: Path,
    output: tuple[int, int],
    environment: Mapping[str, str],
) -> subprocess.Popen[bytes]:
    """The command `caesura`, started as a user starts it."""
    words = [sys.executable, "-m", "caesura.cli", *command[1:]]
    out, error = output
    return subprocess.Popen(words, env=environment, stdout=out, stderr=error, cwd=directory)


class RestartableServer:
    """A server that can be stopped, and started again in the same folder at the same port.

    Args:
        model, arguments: what is served, as in `serving`.
        directory: where it runs and keeps its sessions.
        port: where it listens; any if None.
        environment: variables of its process.
    """

    def __init__(
        self,
        model: str,
        arguments: Sequence[str],
        directory: Path,
        port: int | None = None,
        **environment: str,
    ) -> None:
        self.directory = directory
        port = port or free_port()
        self._serve = partial(serving, model, arguments, port=port, **environment)
        self._running = ExitStack()
        self._starts = 0
        self.server = self.start()

    @property
    def log(self) -> Path:
        """Of the latest start."""
        return self.directory / f"server-{self._starts}.log"

    def start(self) -> Server:
        self._starts += 1
        self.server = self._running.enter_context(self._serve(self.log))
        return self.server

    def stop(self) -> None:
        self._running.close()


def _is_healthy(server: Server) -> bool:
    try:
        return httpx.get(f"{server.url}/health").status_code == 200
    except httpx.TransportError:
        return False
