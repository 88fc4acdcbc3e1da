"""The iterations of a trace, each with what it computed and its time. No vLLM here."""

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caesura.engine.tracing.trace_events import HEADER
from caesura.lab.calibrate.iteration_fit import IterationSample

LOOP_SECONDS = 3e-3
"""Where a trace does not say whether requests ran: iterations that follow within this time are
back to back."""

_TRACK = "iterations"
_COUNTER = "requests"
_ARGS = (
    "query_tokens",
    "prefill_tokens",
    "decode_tokens",
    "recomputed_tokens",
    "requests",
    "context_tokens",
    "attention_pairs",
    "copied_bytes",
)


@dataclass(frozen=True, slots=True)
class LoadedIteration:
    """An iteration of a production run.

    Attributes:
        kind: `decode`, `prefill` (of new tokens or lost ones) or `mixed`.
        sample: what it computed, and its time: until the next one began where that followed
            back to back.
        copied_bytes: by copies of the iteration, both ways, on each rank.
        back_to_back: whether its time is a period of the loop; else it is its own duration.
    """

    kind: str
    sample: IterationSample
    copied_bytes: int
    back_to_back: bool


@dataclass(slots=True)
class _Process:
    """What a process row of a trace says about iterations; times in microseconds."""

    name: str = ""
    track: int | None = None
    slices: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)  # start, duration
    levels: list[tuple[int, int, int]] = field(default_factory=list)  # time, running, waiting


def policy_of(process: str) -> str:
    """The policy that the name of a process row begins with."""
    return process.removesuffix(" (truncated)").partition(" rate ")[0]


def read_iterations(
    path: Path, policies: Collection[str] = (), *, without: Collection[str] = ()
) -> tuple[list[LoadedIteration], list[str]]:
    """The iterations of a trace.

    Args:
        path: what `caesura bench --trace` wrote, or an engine that serves.
        policies: whose process rows are read; empty for all.
        without: policies that are left out unless they are asked for.

    Returns:
        The iterations, and the names of the process rows that they are of.

    Raises:
        ValueError: not a trace, or it lacks what is needed; the message says what.
    """
    processes = _processes(read_trace(path))
    chosen = [
        process
        for process in processes
        if process.slices
        and (name := policy_of(process.name)) not in (set(without) - set(policies))
        and (not policies or name in policies)
    ]
    missing = sorted(set(policies).difference(policy_of(process.name) for process in chosen))
    if missing or not chosen:
        known = sorted({policy_of(process.name) for process in processes if process.slices})
        what = f"of {', '.join(missing)}" if missing else "of ours"
        raise ValueError(
            f"{path}: no iterations {what} in the trace; it has {', '.join(known) or 'none'}"
        )
    try:
        found = [iteration for process in chosen for iteration in _iterations(process)]
    except KeyError as error:
        raise ValueError(
            f"{path}: its iterations lack {error.args[0]}; record the trace with this version"
        ) from error
    return found, [process.name for process in chosen]


def read_trace(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a trace file. Of one that we wrote, one is in memory at a time.

    Raises:
        ValueError: it is not a trace; the message names it.
    """
    with path.open(encoding="utf-8-sig") as file:
        number = 1
        try:
            if file.readline().rstrip() == HEADER:
                for number, line in enumerate(file, start=2):  # noqa: B007
                    if line.startswith("]"):
                        break
                    yield json.loads(line.rstrip().removesuffix(","))
                return
            file.seek(0)
            document = json.load(file)
        except json.JSONDecodeError as error:
            line_number = number + error.lineno - 1
            raise ValueError(
                f"{path}:{line_number}: not a trace: not JSON ({error.msg})"
            ) from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not a trace: not UTF-8 ({error.reason})") from error
    events = document.get("traceEvents") if isinstance(document, dict) else None
    if not isinstance(events, list):
        raise ValueError(f"{path}: not a trace; `caesura bench --trace` writes one")
    yield from events


def _processes(events: Iterable[dict[str, Any]]) -> list[_Process]:
    """The process rows, in order. Names of tracks come before what is on them."""
    processes: dict[int, _Process] = {}
    for event in events:
        phase, name = event["ph"], event["name"]
        process = processes.setdefault(event.get("pid", 0), _Process())
        if phase == "M" and name == "process_name":
            process.name = event["args"]["name"]
        elif phase == "M" and name == "thread_name" and event["args"]["name"] == _TRACK:
            process.track = event["tid"]
        elif phase == "X" and event["tid"] == process.track:
            process.slices.append((event["ts"], event["dur"], event["args"]))
        elif phase == "C" and name == _COUNTER:
            args = event["args"]
            process.levels.append((event["ts"], args["running"], args["waiting"]))
    return list(processes.values())


def _iterations(process: _Process) -> list[LoadedIteration]:
    """Those of one process row, each with its time.

    The counters say whether requests were left to run when it ended: then the time until the
    next one is the loop's, however long. If some only waited, and if there are no counters, the
    next one must follow at once. If there were none, the engine was idle.
    """
    slices = sorted(process.slices, key=lambda entry: entry[0])
    levels = sorted(process.levels, key=lambda entry: entry[0])
    level = 0
    found = []
    for number, (start, duration, args) in enumerate(slices):
        end = start + duration
        while level < len(levels) and levels[level][0] <= end:
            level += 1
        follows = False
        if number + 1 < len(slices):
            gap = max(0, slices[number + 1][0] - end)
            follows = gap <= LOOP_SECONDS * 1e6
            if level:
                _, running, waiting = levels[level - 1]
                follows = running > 0 or (waiting > 0 and follows)
            if follows:
                duration += gap
        found.append(_iteration(args, duration / 1e6, follows))
    return [iteration for iteration in found if iteration.sample.seconds > 0]


def _iteration(args: dict[str, Any], seconds: float, back_to_back: bool) -> LoadedIteration:
    query, prefill, decode, recomputed, requests, context, pairs, copied = (
        args[name] for name in _ARGS
    )
    computed = prefill + recomputed
    return LoadedIteration(
        kind="mixed" if computed and decode else "prefill" if computed else "decode",
        sample=IterationSample(query, context, requests, pairs, seconds),
        copied_bytes=copied,
        back_to_back=back_to_back,
    )
