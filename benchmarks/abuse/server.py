"""The server under attack: `caesura serve` of some source tree, started again when it is gone."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import httpx
import psutil

from abuse.dictated import DICTATED
from caesura.bundled import CML_MODEL

INNOCENT_KEY, TENANT_KEY, OTHER_TENANT_KEY = "innocent", "tenant-a", "tenant-b"
STOCK = "7302"
_BENCHMARKS = Path(__file__).parents[1]
_CONFIGURATION = """\
[sessions]
{sessions}
function_calling = "async"
retention_seconds = 30
sweep_seconds = 5

[tools.stock]
type = "python"
callable = "shop:stock"
idempotent = true

[tools.search]
type = "http"
method = "POST"
url = "http://127.0.0.1:9/search"
approve = true
parameters = {{ properties = {{ filter = {{}} }} }}

[tools.ask]
type = "human"
"""
_TOOLS = f'''\
import asyncio


async def stock(item: str) -> str:
    """How many pieces of an item are in stock."""
    await asyncio.sleep(0.05)
    return "{STOCK}"
'''
_START_SECONDS = 180.0
_END_SECONDS = 20.0
_LEAST_FREE_BYTES = 2 * 2**30  # for all else on this machine


class Loss(StrEnum):
    """Why a server had to be started again."""

    DIED = "died"
    HUNG = "hung"
    MEMORY = "out of memory"


@dataclass
class Server:
    """A server in a process of its own.

    Attributes:
        source: the folder of its packages, `src` of a checkout.
        folder: where it runs and logs.
        memory_bytes: it is killed when its processes have more.
        sessions: more settings of `[sessions]`.
        losses: why it was started again, each time.
    """

    source: Path
    folder: Path
    memory_bytes: int
    sessions: str = ""
    losses: list[Loss] = field(default_factory=list)

    def __post_init__(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        (self.folder / "shop.py").write_text(_TOOLS)
        self._starts = 0

    def start(self) -> None:
        """Start with no sessions, and wait until it serves.

        Raises:
            SystemExit: it does not.
        """
        home = self.folder / str(self._starts)
        home.mkdir()
        self._starts += 1
        (home / "caesura.toml").write_text(_CONFIGURATION.format(sessions=self.sessions))
        log = home / "log"
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                self._command(home), env=self._environment(), stdout=output, stderr=output, cwd=home
            )
        end = time.monotonic() + _START_SECONDS
        print(f"the server starts; its log: {log}", file=sys.stderr, flush=True)
        while not self.is_healthy():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise SystemExit(f"the server did not start:\n{log.read_text()[-4000:]}")
            time.sleep(0.5)

    def _command(self, home: Path) -> list[str]:
        model = self.source / "caesura" / "bundled" / CML_MODEL.name
        return [
            *(sys.executable, "-m", "caesura.cli", "serve", str(model)),
            *("--host", "127.0.0.1", "--port", str(self.port), "--served-model-name", "demo"),
            *("--api-key", INNOCENT_KEY, TENANT_KEY, OTHER_TENANT_KEY),
            *("--config", str(home / "caesura.toml"), "--host-memory", "64MiB"),
            *("--dtype", "float32", "--enforce-eager", "--kv-cache-memory-bytes", str(128 * 2**20)),
            *("--max-model-len", "4096", "--logits-processors", DICTATED),
            # Beyond the positions that a model declares, its embeddings are no numbers.
            *("--hf-overrides", '{"max_position_embeddings": 4096}'),
            # Markers of CML are tokens here and need no parser. This one is for the attackers.
            *("--enable-auto-tool-choice", "--tool-call-parser", "qwen3_coder"),
        ]

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join(map(str, (self.source, _BENCHMARKS, self.folder)))
        return os.environ | {
            "PYTHONPATH": path,
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }

    def is_healthy(self, seconds: float = 5.0) -> bool:
        """Whether it answers within some time."""
        try:
            return httpx.get(f"{self.url}/health", timeout=seconds).status_code == 200
        except httpx.TransportError:
            return False

    def memory(self) -> int:
        """Resident bytes of all its processes."""
        total = 0
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.process.pid)
            for each in (process, *process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    total += int(each.memory_info().rss)
        return total

    def loss(self) -> Loss | None:
        """Whether it is gone, or has to be killed for its memory."""
        if self.process.poll() is not None:
            return Loss.DIED
        if (
            self.memory() > self.memory_bytes
            or psutil.virtual_memory().available < _LEAST_FREE_BYTES
        ):
            return Loss.MEMORY
        return None

    def kill(self, loss: Loss) -> None:
        """End it at once."""
        self.losses.append(loss)
        self._kill()

    def stop(self) -> None:
        """Ask it to end, and end it."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_SECONDS)
        self._kill()

    def _kill(self) -> None:
        found = []
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for child in found:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self.process.wait()


@contextmanager
def serving(source: Path, folder: Path, memory_bytes: int, sessions: str = "") -> Iterator[Server]:
    """A started server, stopped in the end."""
    server = Server(source, folder, memory_bytes, sessions)
    server.start()
    try:
        yield server
    finally:
        server.stop()
