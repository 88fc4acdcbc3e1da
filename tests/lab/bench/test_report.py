import json
from dataclasses import replace
from importlib import metadata
from io import StringIO
from pathlib import Path

from rich.console import Console

from caesura.lab.bench.engines import Waste
from caesura.lab.bench.report import ComparisonReport
from caesura.lab.bench.results import Results
from caesura.lab.bench.settings import BenchSettings
from caesura.lab.bench.stats import RunOutcome
from caesura.lab.machine import this_machine
from caesura.lab.results_file import Origin, source_commit
from support.lab.bench_records import cut_session, outcome

SETTINGS = BenchSettings(
    workload="/somewhere/private/trace.jsonl",
    policies=("stock", "ours"),
    rates=(1.0,),
    model="/somewhere/private/model",
    json_path=Path("/somewhere/private/out.json"),
)
RUNS = [
    outcome("stock", 0, 1.0, 8.0, scheduled_tokens=54),
    outcome("ours", 0, 1.0, 0.8, scheduled_tokens=27),
]
COMMAND = "caesura bench --rates 1"
CONTRACT = {
    "policy",
    "seed",
    "rate",
    "sessions",
    "completed",
    "completed_per_second",
    "normalized_latency_ms",
    "first_ttft_ms",
    "resume_ttft_ms",
    "completion_s",
    "goodput_per_second",
    "longest_wait_s",
    "wait_context_correlation",
    "wait_length_correlation",
    "scheduled_tokens",
    "recomputed_tokens",
    "held_tokens",
    "copied_tokens",
    "loaded_tokens",
    "pauses",
    "waste",
}


def report(runs: list[RunOutcome]) -> ComparisonReport:
    return ComparisonReport(SETTINGS, planned_runs=2, draw=lambda outcomes: {})


def markdown_of(runs: list[RunOutcome]) -> str:
    images = [Path("/somewhere/private/latency.png")]
    return report(runs).page(runs).as_markdown(Origin(COMMAND), images)


def terminal_text(runs: list[RunOutcome], width: int = 200) -> str:
    console = Console(width=width, file=StringIO(), record=True)
    report(runs).page(runs).show(console)
    return console.export_text()


def test_json_keeps_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    settings = SETTINGS.model_copy(update={"json_path": path})
    results = Results[RunOutcome](settings, Origin(COMMAND), report(RUNS))
    for run in RUNS:
        results.add(run)
    text = path.read_text(encoding="utf-8")
    written = json.loads(text)
    assert written["command"] == COMMAND
    assert written["machine"]["python"]
    assert written["commit"] == source_commit()
    assert written["version"] == metadata.version("caesura")
    assert written["planned_runs"] == 2
    first, second = written["runs"]
    assert first.keys() >= CONTRACT
    for figure in ("normalized_latency_ms", "first_ttft_ms", "resume_ttft_ms", "completion_s"):
        assert first[figure].keys() == {"p50", "mean", "p90", "p95", "p99"}
    assert (first["recomputed_tokens"], second["recomputed_tokens"]) == (27, 0)
    assert first["pauses"] is None
    assert written["settings"]["workload"] == "trace.jsonl"
    assert "private" not in text
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_table_has_latency_recomputation_and_ratio() -> None:
    lines = terminal_text(RUNS).splitlines()
    stock = next(line for line in lines if line.strip().startswith("stock  "))
    ours = next(line for line in lines if line.strip().startswith("ours  "))
    assert "1000" in stock
    assert "50.0%" in stock
    assert "100" in ours
    assert "10.0 (1 seed)" in ours
    assert "time limit" not in "\n".join(lines)


def test_table_fits_a_terminal_of_80_columns() -> None:
    seeds = [outcome("min-waste", seed, 1.25, 0.8 + seed, scheduled_tokens=54) for seed in (0, 1)]
    stock = [outcome("stock", seed, 1.25, 99.0, scheduled_tokens=54) for seed in (0, 1)]
    text = terminal_text([*stock, *seeds], width=80)
    assert "…" not in text
    assert "(55.0–124)" in text


def test_waste_is_shown_where_it_was_measured() -> None:
    measured = replace(RUNS[1].report, waste=Waste(0.25, 0.1, 0.05))
    text = terminal_text([RUNS[0], replace(RUNS[1], report=measured)], width=80)
    (line,) = [line.split() for line in text.splitlines() if "40.0%" in line]
    assert line == ["ours", "1", "25.0%", "10.0%", "5.0%", "40.0%"]
    assert "in all" not in terminal_text(RUNS)


def test_unfinished_and_clipped_sessions_are_said() -> None:
    cut = outcome("ours", 0, 1.0, 0.8, cut_session(0))
    counted = replace(cut.report, truncated_sessions=1, dropped_sessions=3)
    cut = replace(cut, report=counted)
    text = " ".join(terminal_text([RUNS[0], cut]).split())
    assert "0.56*" in text
    assert "ours at 1/s 1 of 2" in text
    assert "1 of 2 sessions lost turns" in text
    assert "3 more were left out" in text


def test_markdown_has_command_table_images_and_machine() -> None:
    page = markdown_of(RUNS)
    assert COMMAND in page
    assert "| ours | 1 | 100 | 100 | 100 | 20.0 | 0.56 | 0.0% | 10.0 (1 seed) |" in page
    assert "![latency](latency.png)" in page
    assert f"* python: {this_machine().python}" in page
    assert "32 MiB" in page
    assert "Partial" not in page
    assert "private" not in page


def test_a_partial_page_says_so() -> None:
    assert "Partial: 1 of 2 runs." in markdown_of(RUNS[:1])


def test_the_machine_is_described_without_names_of_hosts_or_paths() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert "/" not in machine.platform
    assert machine.platform.split()[0] in {"Linux", "Darwin"}
