"""Results as JSON, as a table in the terminal and as a Markdown page."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import JustifyMethod
from rich.table import Table

from caesura.lab.bench.results_file import replace_json
from caesura.lab.bench.settings import ComparisonSettings
from caesura.lab.bench.stats import BASELINE_POLICY, PolicyRow, Ratio, RunReport, policy_rows
from caesura.lab.machine import Machine
from caesura.units import format_size

_UNKNOWN = "–"
_HEADERS = (
    "policy",
    "rate\n/s",
    "ms/tok\np50",
    "\nmean",
    "\np90",
    "resume\nms p50",
    "done\n/s",
    "recom-\nputed",
    f"{BASELINE_POLICY} / policy\n(seeds)",
)
_MARKDOWN_HEADERS = (
    "policy",
    "sessions/s",
    "ms/token p50",
    "mean",
    "p90",
    "resume TTFT ms p50",
    "completed/s",
    "recomputed",
    f"{BASELINE_POLICY} / policy",
)
_NOTES = (
    "Latency: (end to end - pauses) / output tokens of a session. Medians over the seeds.",
    f"{BASELINE_POLICY} / policy: mean latency of {BASELINE_POLICY} over that of the policy, "
    "paired by seed: median (lowest to highest).",
)


def write_json(
    path: Path,
    *,
    command: str,
    machine: Machine,
    runs: Sequence[RunReport],
    settings: ComparisonSettings,
    planned_runs: int,
) -> None:
    """Write the results so far; the file is replaced at once and is valid at any moment."""
    results = {
        "command": command,
        "machine": asdict(machine),
        "settings": _public_settings(settings),
        "planned_runs": planned_runs,
        "runs": [asdict(run) for run in runs],
    }
    replace_json(path, results, indent=2)


def _public_settings(settings: ComparisonSettings) -> dict[str, object]:
    """Settings that say what was measured; of paths only the last part."""
    public = settings.model_dump(mode="json", exclude={"json_path", "output_dir", "trace_path"})
    public["workload"] = Path(settings.workload).name
    for name in ("model", "device"):
        value = public.get(name)
        if isinstance(value, str) and Path(value).is_absolute():
            public[name] = Path(value).name
    return public


def terminal_table(runs: Sequence[RunReport]) -> Table:
    """The table for a rich console, one row for each policy and rate."""
    rows = policy_rows(runs)
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        caption="\n".join(_notes(runs)),
        caption_justify="left",
    )
    for header in _HEADERS:
        justify: JustifyMethod = "left" if header == "policy" else "right"
        table.add_column(header, justify=justify, no_wrap=True, vertical="bottom")
    for index, row in enumerate(rows):
        last_of_rate = index + 1 == len(rows) or rows[index + 1].rate != row.rate
        table.add_row(*_cells(row), end_section=last_of_rate)
    return table


def markdown_report(
    *,
    command: str,
    machine: Machine,
    runs: Sequence[RunReport],
    settings: ComparisonSettings,
    planned_runs: int,
    images: Sequence[Path],
) -> str:
    """A page with the command, the table, the images (beside the page) and the machine."""
    rows = policy_rows(runs)
    lines = ["# Comparison of policies", "", "```", command, "```", ""]
    if len(runs) < planned_runs:
        lines += [f"**Partial: {len(runs)} of {planned_runs} runs.**", ""]
    lines += [_workload_line(settings), ""]
    lines += ["| " + " | ".join(_MARKDOWN_HEADERS) + " |"]
    lines += ["|" + "|".join("---" if h == "policy" else "---:" for h in _MARKDOWN_HEADERS) + "|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    for note in _notes(runs):
        lines += ["", note.replace("*", "\\*")]
    for image in images:
        lines += ["", f"![{image.stem}]({image.name})"]
    lines += ["", "## Machine", ""]
    lines += [f"* {name}: {value or _UNKNOWN}" for name, value in asdict(machine).items()]
    return "\n".join(lines) + "\n"


def _workload_line(settings: ComparisonSettings) -> str:
    shared = settings.shared_prefix_tokens
    sharing = f"the first {shared} tokens shared by class" if shared else "unique prompts"
    return (
        f"Workload {Path(settings.workload).name}: {settings.extent}, "
        f"{len(settings.seeds)} seeds, lengths x {settings.scale_tokens:g}, "
        f"pauses x {settings.scale_pauses:g}, {sharing}; "
        f"KV memory {format_size(settings.kv_memory_bytes or 0)}, "
        f"host memory {format_size(settings.host_memory_bytes)}."
    )


def _notes(runs: Sequence[RunReport]) -> list[str]:
    notes = list(_NOTES)
    unfinished = [row for row in policy_rows(runs) if row.completed < row.sessions]
    if unfinished:
        counts = [f"{r.policy} at {r.rate:g}/s {r.completed} of {r.sessions}" for r in unfinished]
        notes.append(
            "* Not all sessions completed within the time limit; figures are of those that did, "
            f"and flatter whatever left more unfinished. Completed: {', '.join(counts)}."
        )
    clipped = {run.seed: run for run in runs if run.truncated_sessions or run.dropped_sessions}
    notes += [
        f"Seed {seed}: {run.truncated_sessions} of {run.sessions} sessions lost turns that did "
        f"not fit the model's context, and {run.dropped_sessions} more were left out."
        for seed, run in clipped.items()
    ]
    return notes


def _cells(row: PolicyRow) -> list[str]:
    latency = row.normalized_latency_ms
    unfinished = "*" if row.completed < row.sessions else ""
    share = row.recomputed_share
    return [
        row.policy,
        f"{row.rate:g}",
        _number(latency.p50),
        _number(latency.mean),
        _number(latency.p90),
        _number(row.resume_ttft_ms.p50),
        _number(row.completed_per_second) + unfinished,
        _UNKNOWN if share is None else f"{share:.1%}",
        _ratio(row.ratio),
    ]


def _number(value: float | None) -> str:
    """About three significant digits."""
    if value is None:
        return _UNKNOWN
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return _UNKNOWN
    spread = "1 seed" if ratio.seeds == 1 else f"{_number(ratio.low)}–{_number(ratio.high)}"
    return f"{_number(ratio.median)} ({spread})" + ("" if ratio.complete else "*")
