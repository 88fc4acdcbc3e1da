"""Workloads by name."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from caesura.lab.bench import synthesis
from caesura.lab.bench.workload import (
    WorkloadError,
    WorkloadSession,
    load_jsonl,
    parse_jsonl,
    sample,
    scaled,
)

_SAMPLE_FILE = "infercept_sample.jsonl"


@dataclass(frozen=True, slots=True)
class Preset:
    """A workload by name: `sessions(n, seed)` gives n of its sessions."""

    name: str
    summary: str
    sessions: Callable[[int, int], list[WorkloadSession]]


def _infercept_sample(n: int, seed: int) -> list[WorkloadSession]:
    file = resources.files("caesura.lab.bench").joinpath("data", _SAMPLE_FILE)
    return sample(parse_jsonl(file.read_text(encoding="utf-8"), name=_SAMPLE_FILE), n, seed)


PRESETS = (
    Preset(
        "infercept-sample",
        "60 sessions of the trace of InferCept (six classes), numbers only",
        _infercept_sample,
    ),
    Preset(
        "infercept-mix",
        "six classes synthesised from InferCept's Table 1",
        synthesis.infercept_mix,
    ),
    Preset(
        "coding-agent",
        "long coding-agent sessions synthesised from published statistics",
        synthesis.coding_agent,
    ),
    Preset("tools", "short tool calls with moderate contexts, synthesised", synthesis.tools),
)


def load_scaled(
    workload: str, sessions: int, seed: int, *, tokens: float, pauses: float
) -> list[WorkloadSession]:
    """As `load_workload`, with lengths and pauses multiplied by factors; see `scaled`."""
    return scaled(load_workload(workload, sessions, seed), tokens=tokens, pauses=pauses)


def load_workload(workload: str, sessions: int, seed: int) -> list[WorkloadSession]:
    """Sessions of a preset or of a JSONL trace.

    Args:
        workload: the name of a preset, or the path of a trace (see `workload.parse_jsonl`).
        sessions: how many; a trace with fewer repeats some of them.
        seed: of the choice and the order, and of what a preset draws.

    Raises:
        WorkloadError: there is no such preset or file, or the file is wrong.
    """
    if sessions < 1:
        raise WorkloadError(f"a workload needs at least one session, not {sessions}")
    for preset in PRESETS:
        if preset.name == workload:
            return preset.sessions(sessions, seed)
    path = Path(workload)
    if path.is_file():
        return sample(load_jsonl(path), sessions, seed)
    names = ", ".join(preset.name for preset in PRESETS)
    raise WorkloadError(
        f"{workload!r} is neither a file nor a preset; presets are {names}, "
        "and a file is JSONL with one session per line"
    )
