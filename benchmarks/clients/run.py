"""Clients that nobody here wrote, unmodified, each with a task of three turns with tools.

    python benchmarks/clients/run.py OUT.json --python PYTHON [--commands FOLDER] [--only NAME,...]

The server is `caesura serve` with the flags that a user needs, on a model whose mind is replaced
(`dictated.py`). A client passes if it gives the task's answer, and if each of its turns but the
first is reported as the continuation of a paused context of which at least 95 % was still there.
"""

import argparse
import asyncio
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

sys.path.insert(0, str(Path(__file__).parents[1]))

from caesura.lab.models.noise_model import DemoModelConfig, demo_model_path
from caesura.lab.results_file import Origin, write_results
from clients.dictated import ANSWER
from clients.proxy import Recorder, Turn

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
LEAST_KEPT = 0.95
TURNS = 3
# Agents have long instructions, and the model's tokens are bytes.
MODEL = DemoModelConfig(
    hidden_size=128, layers=2, heads=2, kv_heads=1, ffn_size=384, max_tokens=131_072
)
KV_BYTES = 512 * 2**20
COMMANDS = ("codex", "opencode", "qwen_code")
CLIENT_SECONDS = 400.0


@dataclass(frozen=True)
class Result:
    """What one client did.

    Attributes:
        client: its program.
        answered: it gave the task's answer.
        turns: requests to the model; some agents ask it for a title beside the task.
        continued: those that a paused context was continued by.
        context: tokens of the longest context that was continued.
        recomputed: tokens computed again, at most in a turn.
        kept: the share of a context that was still there, at least in a turn.
        endpoints: what the pauses waited for.
        continuations: how the prompts came about.
        cached: each turn that continued a context said in its usage how much was cached.
        problem: what it wrote last, if it failed.
    """

    client: str
    answered: bool
    turns: int
    continued: int
    context: int
    recomputed: int
    kept: float
    endpoints: list[str]
    continuations: list[str]
    cached: bool
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether it did its task, and went on from its contexts."""
        return self.answered and self.continued == TURNS - 1 and self.kept >= LEAST_KEPT


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The server; its address."""
    port = free_port()
    paths = [str(ROOT / "src"), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    command = [
        *(sys.executable, "-m", "caesura.cli", "serve", str(demo_model_path(config=MODEL))),
        *("--port", str(port), "--host", "127.0.0.1", "--served-model-name", "demo"),
        *("--kv-cache-memory-bytes", str(KV_BYTES), "--max-model-len", str(MODEL.max_tokens)),
        *("--host-memory", "256MiB", "--enforce-eager", "--dtype", "float32"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        *("--logits-processors", "clients.dictated:Dictation"),
    ]
    log = (folder / "server.log").open("wb")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        while not _is_healthy(url):
            if process.poll() is not None:
                raise SystemExit((folder / "server.log").read_text()[-4000:])
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


@asynccontextmanager
async def recording(recorder: Recorder) -> AsyncIterator[str]:
    """The proxy; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(recorder.app(), log_level="warning"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await task


async def run(
    command: Sequence[str], commands: str, url: str, folder: Path, recorder: Recorder
) -> Result:
    """Run one client to its end."""
    recorder.turns.clear()
    environment = os.environ | {
        "CLIENT_URL": url,
        "CLIENT_COMMANDS": commands,
        "HOME": str(folder),
        "PWD": str(folder),
        "PYTHONPATH": "",
    }
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), CLIENT_SECONDS)
    except TimeoutError:
        process.kill()
        output = b"it took too long"
    return _result(Path(command[-1]).stem, output.decode(errors="replace"), recorder.turns)


def _result(client: str, output: str, turns: Sequence[Turn]) -> Result:
    answered = [turn for turn in turns if turn.status == 200]
    later = answered[1:]
    returned = [turn for turn in later if "endpoint" in turn.report]
    continued = [turn.report for turn in returned]
    result = Result(
        client,
        ANSWER in output,
        len(answered),
        len(continued),
        max([int(report["context_tokens"]) for report in continued], default=0),
        max([int(report["recomputed_tokens"]) for report in continued], default=0),
        min([_kept(report) for report in continued], default=0.0),
        [str(report["endpoint"]) for report in continued],
        [str(report.get("continuation", "")) for report in continued],
        all(turn.cached_tokens for turn in returned),
    )
    if result.passed:
        return result
    return Result(**{**asdict(result), "problem": output[-2000:]})


def _kept(report: dict[str, Any]) -> float:
    return 1 - int(report["recomputed_tokens"]) / int(report["context_tokens"])


async def run_all(names: Sequence[str], python: str, commands: str, folder: Path) -> list[Result]:
    """Run each client against one server."""
    results = []
    with serving(folder) as server:
        recorder = Recorder(server)
        async with recording(recorder) as url:
            for name in names:
                work = folder / name
                work.mkdir()
                command = [python, str(PROGRAMS / f"{name}.py")]
                result = await run(command, commands, url, work, recorder)
                results.append(result)
                print(line(result), flush=True)
    return results


def line(result: Result) -> str:
    """A result as a row of a table."""
    cells: list[Any] = [
        f"`{result.client}`",
        "passes" if result.passed else "fails",
        result.turns,
        result.continued,
        result.context,
        result.recomputed,
        ", ".join(dict.fromkeys(result.endpoints)),
        ", ".join(dict.fromkeys(result.continuations)),
        "yes" if result.cached else "no",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Run all, write the results, and fail if one has failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--python", default=sys.executable, help="has the clients")
    parser.add_argument("--commands", type=Path, help="the folder of the command-line agents")
    parser.add_argument("--only", help="programs, separated by commas")
    options = parser.parse_args()
    commands = "" if options.commands is None else str(options.commands.absolute())
    left_out = {"common", "command", *(() if commands else COMMANDS)}
    names = sorted(file.stem for file in PROGRAMS.glob("*.py") if file.stem not in left_out)
    if options.only:
        names = options.only.split(",")
    folder = Path(tempfile.mkdtemp(prefix="caesura-clients-"))
    try:
        python = shutil.which(options.python) or options.python
        results = asyncio.run(run_all(names, str(Path(python).absolute()), commands, folder))
        versions = subprocess.run(
            [python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    command = shlex.join(["benchmarks/clients/run.py", *sys.argv[1:]])
    packages = json.loads((Path(__file__).parent / "package.json").read_text())["dependencies"]
    figures = {
        "commands": packages if commands else {},
        "results": [asdict(result) | {"passed": result.passed} for result in results],
        "packages": [version for version in versions if "==" in version],
    }
    write_results(options.out, Origin(command), figures)
    print(json.dumps({"passed": sum(r.passed for r in results), "of": len(results)}))
    sys.exit(not all(result.passed for result in results))


if __name__ == "__main__":
    main()
