"""What the server bears, and what it adds to each request.

    .venv/bin/python benchmarks/server_load.py OUT.json [--paused 500] [--active 50]

1. Load: sessions that wait for a human and sessions that generate, at once, in several waves.
   Reported are the lag of the event loop and the memory of the server's process at each stage.
   The model is made to call a tool by a logits processor of the tests; all else is real.
2. Overhead: plain vLLM and Caesura side by side, the same chat requests in turn, A B B A.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import psutil

from caesura.lab.models.noise_model import demo_model_path
from caesura.lab.results_file import Origin, replace_json

TESTS = Path(__file__).parent.parent / "tests"
CONFIGURATION = """
[sessions]
default_tools = "all"
open_sessions_per_owner = 100000
retention_seconds = 15
sweep_seconds = 5
[tools.get_weather]
type = "python"
callable = "benchmark_tools:get_weather"
approve = true
[tools.get_time]
type = "python"
callable = "benchmark_tools:get_time"
"""
TOOLS = '''
def get_weather(city: str) -> str:
    """The weather."""
    return f"sunny in {city}"


def get_time(city: str) -> str:
    """The time."""
    return f"noon in {city}"
'''
STAGE_SECONDS = 240.0
PLAIN = "from caesura.engine.serving.serve import run_vllm; import sys; run_vllm(sys.argv[1:])"
COMMON = [
    "--dtype",
    "float32",
    "--enforce-eager",
    "--served-model-name",
    "demo",
    "--block-size",
    "32",
]
PARSER = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]


class Server:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120)

    def rss_mib(self) -> float:
        """Resident memory of the API process, without the engine's."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    async def lag_buckets(self) -> dict[float, float]:
        """Cumulative counts of the event loop's lag, by upper bound in seconds."""
        text = (await self.client.get("/metrics")).text
        found = re.findall(r'caesura_event_loop_lag_seconds_bucket\{le="(\S+?)"\} (\S+)', text)
        return {float(bound): float(count) for bound, count in found}


@contextlib.contextmanager
def serving(command: Sequence[str], log: Path, **environment: str) -> Iterator[Server]:
    """Start a server, wait until it serves, stop it in the end."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command, "--port", str(port), "--host", "127.0.0.1"],
            env=os.environ | {"PYTHONPATH": _python_path()} | environment,
            stdout=output,
            stderr=output,
        )
    try:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                    break
            if process.poll() is not None:
                raise SystemExit(f"the server did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.5)
        yield Server(process, port)
    except BaseException:
        print(log.read_text()[-3000:], file=sys.stderr)
        raise
    finally:
        began = time.perf_counter()
        process.terminate()
        process.wait(timeout=120)
        print(f"stopped in {time.perf_counter() - began:.1f} s", file=sys.stderr)


def _python_path() -> str:
    return os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])


def quantile(before: dict[float, float], after: dict[float, float], share: float) -> float:
    """Upper bound of the bucket in which a quantile lies, of what came between two readings."""
    counts = {bound: after[bound] - before.get(bound, 0.0) for bound in sorted(after)}
    total = counts[float("inf")]
    return next(bound for bound, count in counts.items() if count >= share * total)


async def load(server: Server, paused: int, active: int) -> dict[str, object]:
    """One wave: all sessions are made, run side by side, and end."""
    question = {"messages": [{"role": "user", "content": "weather?"}], "temperature": 0}
    story = {**question, "tools": [], "max_tokens": 400, "keep_open": False}
    before, rss_before = await server.lag_buckets(), server.rss_mib()
    started = time.perf_counter()
    limit = asyncio.Semaphore(32)

    async def make(body: dict[str, object]) -> str:
        async with limit:
            answer = await server.client.post("/v1/sessions", json=body)
            answer.raise_for_status()
            return answer.json()["id"]

    waiting = await asyncio.gather(*(make(question) for _ in range(paused)))
    while True:
        listed = await server.client.get(
            "/v1/approvals", params={"state": "waiting", "limit": 1000}
        )
        if len(listed.json()["data"]) >= paused:
            break
        await asyncio.sleep(0.2)
    paused_seconds = time.perf_counter() - started
    generated = await asyncio.gather(*(make(story) for _ in range(active)))

    async def ended(session_id: str) -> None:
        async with server.client.stream("GET", f"/v1/sessions/{session_id}/events") as events:
            async for _ in events.aiter_lines():
                pass

    busy, busy_started = await server.lag_buckets(), time.perf_counter()
    await asyncio.gather(*(ended(session_id) for session_id in generated))
    active_seconds = time.perf_counter() - busy_started
    after, rss_loaded = await server.lag_buckets(), server.rss_mib()

    async def cancel(session_id: str) -> None:
        async with limit:
            (await server.client.post(f"/v1/sessions/{session_id}/cancel")).raise_for_status()

    await asyncio.gather(*(cancel(session_id) for session_id in waiting))
    async with asyncio.timeout(STAGE_SECONDS):
        while True:
            listed = await server.client.get("/v1/sessions")
            if not listed.json()["data"]:  # the sweep has forgotten them
                break
            await asyncio.sleep(1)
    return {
        "paused_sessions": paused,
        "active_sessions": active,
        "until_all_paused_seconds": paused_seconds,
        "active_seconds": active_seconds,
        "loop_lag_p99_seconds_while_made": quantile(before, busy, 0.99),
        "loop_lag_p99_seconds_while_active": quantile(busy, after, 0.99),
        "loop_lag_p50_seconds_while_active": quantile(busy, after, 0.50),
        "rss_mib_before": rss_before,
        "rss_mib_loaded": rss_loaded,
        "rss_mib_after": server.rss_mib(),
    }


async def overhead(servers: dict[str, Server], requests: int) -> dict[str, object]:
    """Seconds of each request, by server; and the ratio of pairs."""
    seconds: dict[str, list[float]] = {name: [] for name in servers}
    names = list(servers)
    for index in range(requests + 20):
        text = f"request {index}: " + "lorem ipsum " * 8
        body = {"model": "demo", "max_tokens": 8, "temperature": 0}
        body["messages"] = [{"role": "user", "content": text}]
        for name in names if index % 2 else reversed(names):
            started = time.perf_counter()
            answer = await servers[name].client.post("/v1/chat/completions", json=body)
            answer.raise_for_status()
            if index >= 20:  # the first ones warm up
                seconds[name].append(time.perf_counter() - started)
    ratios = [ours / plain for plain, ours in zip(*(seconds[name] for name in names), strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "requests": requests,
        "median_seconds": medians,
        "ratio_of_medians": medians[names[1]] / medians[names[0]],
        "ratio_of_pairs_quartiles": [low, middle, high],
    }


def main() -> None:
    """Measure both and write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--paused", type=int, default=500)
    parser.add_argument("--active", type=int, default=50)
    parser.add_argument("--waves", type=int, default=3)
    parser.add_argument("--requests", type=int, default=300)
    options = parser.parse_args()
    model = str(demo_model_path())
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "caesura.toml").write_text(CONFIGURATION)
        (here / "benchmark_tools.py").write_text(TOOLS)
        ours = ["-m", "caesura.cli", "serve", model, *COMMON, *PARSER]
        ours += ["--config", str(here / "caesura.toml"), "--host-memory", "1GiB"]
        scripted = ["--logits-processors", "scripted_model:ScriptedToolCalls"]
        scripted += ["--kv-cache-memory-bytes", str(256 * 2**20)]
        with serving([*ours, *scripted], here / "load.log") as server:
            waves = [
                asyncio.run(_wave(server, options.paused, options.active))
                for _ in range(options.waves)
            ]
        plain = ["-c", PLAIN, "serve", model, *COMMON, *PARSER]
        memory = ["--kv-cache-memory-bytes", str(256 * 2**20)]
        environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"}
        with (
            serving([*plain, *memory], here / "plain.log", **environment) as stock,
            serving([*ours, *memory], here / "ours.log", **environment) as caesura,
        ):
            servers = {"vllm": stock, "caesura": caesura}
            compared = asyncio.run(overhead(servers, options.requests))
    report = {
        **Origin(shlex.join(["benchmarks/server_load.py", *sys.argv[1:]])).entries(),
        "waves": waves,
        "overhead": compared,
    }
    replace_json(options.out, report)
    print(json.dumps(report, indent=1))


async def _wave(server: Server, paused: int, active: int) -> dict[str, object]:
    server.client = httpx.AsyncClient(
        base_url=server.client.base_url, timeout=120, limits=httpx.Limits(max_connections=200)
    )
    async with server.client:
        return await load(server, paused, active)


if __name__ == "__main__":
    main()
