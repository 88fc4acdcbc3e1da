"""An innocent client beside attackers of each class, on a real server: what it notices of them.

    python benchmarks/abuse/run.py OUT.json [--seconds 600] [--source src] [--kinds NAME,...]

Idle phases and attacks alternate. The attackers run at the lowest priority of the machine, since
theirs would be others; all else is as in `caesura serve` with API keys: the bundled model, with a
logits processor that writes what attackers dictate. With `--control` they attack a second server
on the same machine: what the innocent client notices then is that the machine is busy.
"""

import argparse
import asyncio
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from abuse.attackers import ALL
from abuse.attacks import KINDS
from abuse.figures import IDLE, Phase, report, table
from abuse.innocent import Innocent
from abuse.server import INNOCENT_KEY, OTHER_TENANT_KEY, TENANT_KEY, Loss, Server, serving
from caesura.lab.results_file import Origin, replace_json

ROOT = Path(__file__).parents[2]
_IDLE_SHARE = 0.35
_RECOVERY_SECONDS = 60.0
_QUICK_SECONDS = 0.5
_LOOK_SECONDS = 0.1
_INNOCENT_REQUESTS = 2


class Run:
    """Phases one after the other.

    Args:
        server: the innocent client's server, started.
        attacked: the attackers' server, started: the same one, or for a control another one.
        folder: for files of the attackers.
        seed: of what they draw.
    """

    def __init__(self, server: Server, attacked: Server, folder: Path, seed: int) -> None:
        self._server = attacked
        self._folder = folder
        self._seed = seed
        self._innocent = Innocent(server.url)
        self.phases: list[Phase] = []

    async def alternate(self, kinds: Sequence[str], seconds: float) -> None:
        """Idle, attack, idle, ..., idle."""
        each = seconds / max(1, len(kinds))
        idle, attack = _IDLE_SHARE * each, (1 - _IDLE_SHARE) * each
        async with self._innocent.at_work():
            await asyncio.sleep(idle)  # to warm up
            await self._phase(IDLE, idle)
            for kind in kinds:
                await self._phase(kind, attack)
                await self._calm()
                await self._phase(IDLE, idle)

    async def _phase(self, kind: str, seconds: float) -> None:
        file = self._folder / f"answers-{len(self.phases)}"
        async with attacking(kind, self._server.url, self._seed, file) as begin:
            noticed = self._innocent.begin()
            begun = time.perf_counter()
            begin()
            memory, loss = await self._watch(begun + seconds)
        if loss is None and kind != IDLE:
            more, loss = await self._recovery()
            memory = max(memory, more)
        self._innocent.note_waits()
        answers = Counter(json.loads(file.read_text())) if file.exists() else Counter()
        length = time.perf_counter() - begun
        self.phases.append(Phase(kind, length, noticed, memory / 2**20, answers, loss))
        print(_line(self.phases[-1]), file=sys.stderr, flush=True)
        self._innocent.begin()  # what comes before the next phase counts for none
        if loss is not None:
            await self._start_again(loss)

    async def _watch(self, end: float) -> tuple[int, Loss | None]:
        """Wait for a phase's end: the memory at most, and what became of the server."""
        memory = 0
        while time.perf_counter() < end:
            memory = max(memory, self._server.memory())
            if loss := self._server.loss():
                return memory, loss
            await asyncio.sleep(_LOOK_SECONDS)
        return memory, None

    async def _recovery(self) -> tuple[int, Loss | None]:
        """Wait until the server answers quickly; it has a minute for that."""
        end, memory, quick = time.perf_counter() + _RECOVERY_SECONDS, 0, 0
        while quick < 3:
            memory = max(memory, self._server.memory())
            if loss := self._server.loss():
                return memory, loss
            if time.perf_counter() > end:
                return memory, Loss.HUNG
            healthy = await asyncio.to_thread(self._server.is_healthy, _QUICK_SECONDS)
            quick = quick + 1 if healthy else 0
        return memory, None

    async def _calm(self) -> None:
        """End what attackers have left, so that the next phase is idle."""
        end = time.perf_counter() + _RECOVERY_SECONDS
        async with httpx.AsyncClient(
            base_url=self._server.url, timeout=_RECOVERY_SECONDS
        ) as client:
            while time.perf_counter() < end:
                with suppress(httpx.TransportError, ValueError, KeyError):
                    for key in (TENANT_KEY, OTHER_TENANT_KEY):
                        await _cancel_all(client, {"Authorization": f"Bearer {key}"})
                    if await _requests(client) <= _INNOCENT_REQUESTS:
                        return
                await asyncio.sleep(0.5)
        self.phases[-1] = replace(self.phases[-1], loss=Loss.HUNG)
        await self._start_again(Loss.HUNG)

    async def _start_again(self, loss: Loss) -> None:
        print(f"the server {loss}", file=sys.stderr, flush=True)
        await asyncio.to_thread(self._server.kill, loss)
        await asyncio.to_thread(self._server.start)
        await asyncio.sleep(2)


async def _cancel_all(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    page: dict[str, Any] = {"limit": 100}
    while True:
        listed = (await client.get("/v1/sessions", params=page, headers=headers)).json()
        for session in listed["data"]:
            if session["phase"] != "ended":
                await client.post(f"/v1/sessions/{session['id']}/cancel", headers=headers)
        if not listed["has_more"]:
            return
        page["before"] = listed["data"][-1]["id"]


async def _requests(client: httpx.AsyncClient) -> float:
    """How many requests the engine has."""
    headers = {"Authorization": f"Bearer {INNOCENT_KEY}"}
    text = (await client.get("/metrics", headers=headers)).text
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting{")
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(names))


@asynccontextmanager
async def attacking(
    kind: str, url: str, seed: int, file: Path
) -> AsyncIterator[Callable[[], None]]:
    """Attackers that are ready, and how they are made to begin; killed in the end."""
    if kind == IDLE:
        yield lambda: None
        return
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "abuse.attackers", kind, url, str(seed), str(file)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        await process.stdout.readline()
        yield lambda: process.stdin.write(b"\n")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _line(phase: Phase) -> str:
    gaps = sorted(phase.noticed.token_gaps) or [0.0]
    return (
        f"{phase.kind:30} {phase.seconds:5.0f} s  {len(gaps):6} gaps  "
        f"p50 {1000 * gaps[len(gaps) // 2]:5.1f}  p99 {1000 * gaps[int(0.99 * len(gaps))]:6.1f}  "
        f"worst {1000 * gaps[-1]:7.0f} ms  "
        f"health {1000 * max(phase.noticed.health_seconds, default=0.0):7.0f} ms  "
        f"{phase.memory_mib:5.0f} MiB  errors {dict(phase.noticed.errors)}  "
        f"{phase.loss or ''}  attackers {dict(phase.answers)}"
    )


def commit_of(source: Path) -> str | None:
    """The commit of the checkout that is served; None outside of one."""
    command = ["git", "-C", str(source), "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def main() -> None:
    """Run all phases, write the figures, show the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", type=Path, default=ROOT / "src", help="what is served")
    parser.add_argument("--kinds", default=",".join([*KINDS, ALL]), help="which attackers")
    parser.add_argument("--memory-gib", type=float, default=6.0, help="kill the server beyond")
    parser.add_argument("--sessions", default="", help="settings of [sessions], as TOML")
    parser.add_argument("--control", action="store_true", help="attack another server")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as another:
        here, memory = Path(folder), int(options.memory_gib * 2**30)
        served = partial(
            serving, options.source.resolve(), memory_bytes=memory, sessions=options.sessions
        )
        with ExitStack() as servers:
            server = attacked = servers.enter_context(served(here))
            if options.control:
                attacked = servers.enter_context(served(Path(another)))
            run = Run(server, attacked, here, options.seed)
            try:
                asyncio.run(run.alternate(kinds, options.seconds))
            finally:  # also of a run that was stopped
                found = report(run.phases)
                command = shlex.join(["benchmarks/abuse/run.py", *sys.argv[1:]])
                commit = {"served_commit": commit_of(options.source)}
                replace_json(options.out, {**Origin(command).entries(), **commit, **found})
                print(table(found), flush=True)


if __name__ == "__main__":
    main()
