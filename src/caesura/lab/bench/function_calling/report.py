"""Results as JSON, as tables in the terminal and as a Markdown page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.table import Table

from caesura.lab.bench.function_calling.records import CaseRun
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings
from caesura.lab.bench.function_calling.stats import (
    ArmSummary,
    Comparison,
    Spread,
    comparisons,
    summaries,
)
from caesura.lab.bench.results_file import replace_json
from caesura.lab.machine import Machine

_ARM_HEADERS = (
    "",
    "correct",
    "latency s, median (quartiles)",
    "mean",
    "G ms",
    "E ms",
    "ms/token",
    "/ bound, %",
    "calls only, %",
)
_COMPARISON_HEADERS = (
    "latency of",
    "over that of",
    "median (quartiles)",
    "95 % interval",
    "of means",
    "of bounds",
    "pairs",
)
_NOTES = (
    "Latency: from the submission of the prompt to the last token of the answer. G, E: means per "
    "call.",
    "/ bound: above the theoretical latency of the mode for the measured G and E; calls only: "
    "without the answer.",
)


def write_json(
    path: Path,
    *,
    command: str,
    machine: Machine,
    settings: FunctionCallingSettings,
    skipped: Mapping[str, int],
    runs: Sequence[CaseRun],
) -> None:
    """Write the results so far; the file is replaced at once and is valid at any moment."""
    results = {
        "command": command,
        "machine": asdict(machine),
        "settings": _public_settings(settings),
        "skipped": dict(skipped),
        "runs": [asdict(run) for run in runs],
    }
    replace_json(path, results, indent=1)


def _public_settings(settings: FunctionCallingSettings) -> dict[str, object]:
    """Settings that say what was measured; of paths only the last part."""
    public = settings.model_dump(mode="json", exclude={"json_path", "output_dir", "data"})
    if settings.model is not None:
        public["model"] = Path(settings.model).name
    return public


def arm_table(runs: Sequence[CaseRun]) -> Table:
    """A row for each mode, order or policy."""
    table = _table(_ARM_HEADERS)
    for summary in summaries(runs):
        table.add_row(*_arm_cells(summary))
    table.caption = "\n".join(_NOTES)
    table.caption_justify = "left"
    return table


def comparison_table(runs: Sequence[CaseRun]) -> Table:
    """A row for each pair of arms."""
    table = _table(_COMPARISON_HEADERS)
    for comparison in comparisons(runs):
        table.add_row(*_comparison_cells(comparison))
    return table


def markdown_report(
    *,
    command: str,
    machine: Machine,
    settings: FunctionCallingSettings,
    skipped: Mapping[str, int],
    runs: Sequence[CaseRun],
    images: Sequence[Path],
) -> str:
    """The page beside the plots."""
    parts = [
        f"# Function calling: {settings.suite}",
        f"```\n{command}\n```",
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB, vLLM {machine.vllm}.",
        tables(runs),
        " ".join(_NOTES),
    ]
    if skipped:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in skipped.items())
        parts.append(f"Cases that could not be used: {reasons}.")
    parts += [f"![{image.stem}]({image.name})" for image in images]
    return "\n\n".join(parts) + "\n"


def tables(runs: Sequence[CaseRun]) -> str:
    """Both tables as Markdown."""
    return "\n\n".join(
        (
            _markdown(_ARM_HEADERS, map(_arm_cells, summaries(runs))),
            _markdown(_COMPARISON_HEADERS, map(_comparison_cells, comparisons(runs))),
        )
    )


def _arm_cells(summary: ArmSummary) -> tuple[str, ...]:
    return (
        summary.name,
        f"{summary.correct}/{summary.runs}",
        _spread(summary.latency, "{:.3f}"),
        f"{summary.mean_latency:.3f}",
        f"{1000 * summary.generation:.0f}",
        f"{1000 * summary.execution:.0f}",
        f"{1000 * summary.token:.2f}",
        _above(summary.against_bound),
        _above(summary.calls_against_bound),
    )


def _comparison_cells(comparison: Comparison) -> tuple[str, ...]:
    return (
        comparison.slower,
        comparison.faster,
        _spread(comparison.ratio, "{:.2f}"),
        f"{comparison.low:.2f} to {comparison.high:.2f}",
        f"{comparison.of_means:.2f}",
        f"{comparison.bound:.2f}",
        str(comparison.pairs),
    )


def _spread(spread: Spread, form: str) -> str:
    median, low, high = map(form.format, (spread.median, spread.low, spread.high))
    return f"{median} ({low} to {high})"


def _above(ratio: Spread) -> str:
    median, low, high = (
        f"{100 * (value - 1):+.1f}" for value in (ratio.median, ratio.low, ratio.high)
    )
    return f"{median} ({low} to {high})"


def _table(headers: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index else "left", vertical="bottom")
    return table


def _markdown(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
