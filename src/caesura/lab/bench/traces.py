"""The traces of all runs of a comparison in one file, each run a process row of its own.

An engine of `caesura bench` writes a section per run, after one for the warm-up; a simulated
run is a section of its own. They are written beside the file until they are merged.
"""

import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from caesura.engine.tracing.trace_events import PID, section_path, write_trace
from caesura.lab.bench.settings import ComparisonSettings
from caesura.lab.bench.stats import RunPlan


def engine_part(settings: ComparisonSettings, policy: str) -> Path | None:
    """Where the engine of a policy writes its traces; None without a trace."""
    if settings.trace_path is None:
        return None
    return _directory(settings.trace_path) / f"{settings.policies.index(policy)}.json"


def simulated_part(settings: ComparisonSettings, plan: RunPlan) -> Path | None:
    """Where a simulated run writes its trace; None without a trace."""
    part = engine_part(settings, plan.policy)
    if part is None:
        return None
    return part.with_name(f"{part.stem}-{plan.rate!r}-{plan.seed}.json")


def engine_parts(settings: ComparisonSettings, plans: Sequence[RunPlan]) -> dict[RunPlan, Path]:
    """The section of each run, by the order in which the engines run them."""
    started: Counter[str] = Counter()
    parts: dict[RunPlan, Path] = {}
    for plan in plans:
        started[plan.policy] += 1  # section 0 is the warm-up
        path = engine_part(settings, plan.policy)
        if path is not None:
            parts[plan] = section_path(path, started[plan.policy])
    return parts


def simulated_parts(settings: ComparisonSettings, plans: Sequence[RunPlan]) -> dict[RunPlan, Path]:
    """The section of each simulated run."""
    parts = {plan: simulated_part(settings, plan) for plan in plans}
    return {plan: path for plan, path in parts.items() if path is not None}


@contextlib.contextmanager
def traced(
    settings: ComparisonSettings,
    plans: Sequence[RunPlan],
    parts_of: Callable[[ComparisonSettings, Sequence[RunPlan]], Mapping[RunPlan, Path]],
    console: Console,
) -> Iterator[None]:
    """Merge the traces of the runs within, however it ends. Without a trace nothing is done."""
    path = settings.trace_path
    if path is None:
        yield
        return
    shutil.rmtree(_directory(path), ignore_errors=True)  # of an earlier comparison
    _directory(path).mkdir(parents=True)
    try:
        yield
    finally:
        truncated = merge_traces(path, parts_of(settings, plans))
        shutil.rmtree(_directory(path), ignore_errors=True)
        console.print(f"Trace: {path} (open it at https://ui.perfetto.dev)")
        for name in truncated:
            console.print(f"Trace of {name}: its end is missing; trace fewer sessions.")


def merge_traces(path: Path, parts: Mapping[RunPlan, Path]) -> list[str]:
    """Write one trace of all parts that exist.

    Returns:
        Names of the runs whose traces are truncated.
    """
    truncated: dict[str, str] = {}
    write_trace(path, _merged(parts, truncated), {"truncated": truncated})
    return list(truncated)


def _merged(
    parts: Mapping[RunPlan, Path], truncated: dict[str, str]
) -> Iterator[dict[str, object]]:
    """The events of all parts, one part in memory at a time; notes which are truncated."""
    for pid, (plan, part) in enumerate(parts.items(), start=1):
        if not part.exists():
            continue
        trace = json.loads(part.read_text("utf-8"))
        name = f"{plan.policy} rate {plan.rate:g} seed {plan.seed}"
        if "truncated" in trace["otherData"]:
            truncated[name] = trace["otherData"]["truncated"]
        yield _metadata("process_sort_index", pid, sort_index=pid)
        for record in trace["traceEvents"]:
            if record["name"] == "process_name":
                record["args"]["name"] = f"{name} (truncated)" if name in truncated else name
            yield record | {"pid": pid, "tid": pid + record["tid"] - PID}


def _directory(trace_path: Path) -> Path:
    return trace_path.with_name(f".{trace_path.name}.parts")


def _metadata(kind: str, pid: int, **args: int) -> dict[str, object]:
    return {"ph": "M", "name": kind, "pid": pid, "tid": pid, "ts": 0, "args": args}
