"""vLLM's own OpenAI-compatible server, without Caesura's scheduler: what most agents talk to."""

import asyncio
import os
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from caesura.lab.bench.arm_engines import EngineStartError
from caesura.lab.bench.function_calling.native_format import TOOL_PARSER
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings
from caesura.lab.bench.function_calling.vllm_planned_calls import PLANNED_CALLS
from caesura.variables import environment

SERVED_MODEL = "bench"
_START_SECONDS = 240
_POLL_SECONDS = 0.5
_COUNT_SECONDS = 0.01
_ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
_DECODING = "vllm:request_decode_time_seconds"


@dataclass(frozen=True, slots=True)
class Decoding:
    """Requests that are over, and the time from the first to the last token, over all of them."""

    requests: int
    seconds: float


class StockServer:
    """A server that runs, with the memory and the limits of the engine that it is compared with.

    Attributes:
        url: base of its API.
    """

    def __init__(self, process: Process, url: str, log: Path) -> None:
        self.url = url
        self._process = process
        self._log = log
        self._metrics = httpx.AsyncClient(base_url=url.removesuffix("/v1"), timeout=60)

    @classmethod
    async def start(cls, settings: FunctionCallingSettings, model: Path) -> Self:
        """Start it, as `vllm serve` does; takes 20 to 60 seconds on two cores.

        Raises:
            EngineStartError: it did not start; the message says where its log is.
        """
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        log = Path(tempfile.gettempdir()) / f"caesura-stock-{os.getpid()}-{port}.log"
        threads = {"OMP_NUM_THREADS": str(settings.threads)}
        with log.open("wb") as file, environment(_ENVIRONMENT | threads):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
                *_arguments(settings, model, port),
                stdout=file,
                stderr=file,
            )
        server = cls(process, f"http://127.0.0.1:{port}/v1", log)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await server._until_healthy()
        except BaseException:
            await server.stop()
            raise
        return server

    async def _until_healthy(self) -> None:
        while True:
            if self._process.returncode is not None:
                lines = self._log.read_text(errors="replace").splitlines()
                raise EngineStartError(
                    "stock vLLM did not start:\n  "
                    + "\n  ".join([line for line in lines if "rror" in line][-5:])
                    + f"\nIts whole log: {self._log}"
                )
            try:
                if (await self._metrics.get("/health")).is_success:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(_POLL_SECONDS)

    async def decoding(self, requests: int = 0) -> Decoding:
        """What the engine says of its decoding so far, without HTTP.

        Args:
            requests: so many are over; the server counts them a moment later.
        """
        while True:
            text = (await self._metrics.get("/metrics")).raise_for_status().text
            found = {
                sample.name.removeprefix(_DECODING): sample.value
                for family in text_string_to_metric_families(text)
                if family.name == _DECODING
                for sample in family.samples
            }
            decoding = Decoding(int(found.get("_count", 0)), found.get("_sum", 0.0))
            if decoding.requests >= requests:
                return decoding
            await asyncio.sleep(_COUNT_SECONDS)

    async def stop(self) -> None:
        """Stop it."""
        await self._metrics.aclose()
        if self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
            self._log.unlink(missing_ok=True)


def _arguments(settings: FunctionCallingSettings, model: Path, port: int) -> list[str]:
    return [
        *("--model", str(model), "--served-model-name", SERVED_MODEL),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", settings.dtype, "--enforce-eager"),
        *("--kv-cache-memory-bytes", str(settings.kv_memory_bytes)),
        *("--block-size", "32", "--max-model-len", "auto", "--max-num-seqs", "64"),
        *("--max-num-batched-tokens", "512", "--distributed-executor-backend", "uni"),
        *("--enable-auto-tool-choice", "--tool-call-parser", TOOL_PARSER),
        *("--logits-processors", PLANNED_CALLS),
    ]
