"""What a comparison of policies says: its table, its page, its entries in the file of figures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure

from caesura.lab.bench.arms import BASELINE
from caesura.lab.bench.rows import PolicyRow, Ratio, policy_rows
from caesura.lab.bench.service import ServiceGoal
from caesura.lab.bench.settings import ComparisonSettings
from caesura.lab.bench.stats import RunOutcome, RunReport
from caesura.lab.report import UNKNOWN, Grid, Page
from caesura.units import format_size

_HEADERS = (
    "policy",
    "sessions\n/s",
    "ms/tok\np50",
    "\nmean",
    "\np90",
    "resume\nms p50",
    "done\n/s",
    "recom-\nputed",
    f"{BASELINE} / policy\n(seeds)",
)
_NOTES = (
    "Latency: (end to end - pauses) / output tokens of a session. Medians over the seeds.",
    f"{BASELINE} / policy: mean latency of {BASELINE} over that of the policy, paired by seed: "
    "median (lowest to highest).",
)

_SERVICE_HEADERS = (
    "policy",
    "sessions\n/s",
    "good\n/s",
    "first\np95 s",
    "resume\np95 s",
    "\np99 s",
    "done\np95 s",
    "longest\nwait s",
    "wait ~\ncontext",
    "wait ~\nlength",
)
_WASTE_HEADERS = (
    "policy",
    "sessions\n/s",
    "memory\nheld",
    "idle: re-\ncomputed",
    "idle:\ncopied",
    "\nin all",
)


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """See `caesura.lab.bench.results.Report`.

    Attributes:
        settings: what is run.
        planned_runs: how many runs there will be.
        draw: makes the plots.
    """

    settings: ComparisonSettings
    planned_runs: int
    draw: Callable[[Sequence[RunOutcome]], Mapping[str, Figure]]

    def entries(self, outcomes: Sequence[RunOutcome]) -> Mapping[str, object]:
        """How many runs there will be, and the figures of those that there are."""
        return {
            "planned_runs": self.planned_runs,
            "runs": [asdict(outcome.report) for outcome in outcomes],
        }

    def page(self, outcomes: Sequence[RunOutcome]) -> Page:
        """The table, and whether runs are missing in it."""
        runs = [outcome.report for outcome in outcomes]
        partial = [f"Partial: {len(outcomes)} of {self.planned_runs} runs."]
        return Page(
            "Comparison of policies",
            [_workload_line(self.settings)],
            [policy_grid(runs), service_grid(runs, self.settings.goal), *waste_grid(runs)],
            partial if len(outcomes) < self.planned_runs else (),
        )

    def figures(self, outcomes: Sequence[RunOutcome]) -> Mapping[str, Figure]:
        """The plots."""
        return self.draw(outcomes)


def policy_grid(runs: Sequence[RunReport]) -> Grid:
    """A row for each policy and rate."""
    rows = policy_rows(runs)
    last_of_rates = {row.rate: number for number, row in enumerate(rows)}
    return Grid(
        _HEADERS,
        [_cells(row) for row in rows],
        _notes(rows, runs),
        frozenset(last_of_rates.values()),
    )


def service_grid(runs: Sequence[RunReport], goal: ServiceGoal) -> Grid:
    """How sessions are served: a row for each policy and rate."""
    rows = policy_rows(runs)
    last_of_rates = {row.rate: number for number, row in enumerate(rows)}
    notes = (
        f"good/s: sessions per second of arrivals each of whose turns has its first token within "
        f"{goal.ttft_seconds:g} s, and whose time per output token is within {goal.slowdown:g} "
        "times what it is when nothing else runs. first, resume: time to first token of first and "
        "of later turns; done: end to end - pauses.",
        "Wait: time to first token beyond that of the turn alone. wait ~ context: Pearson's "
        "correlation over turns with the context then; wait ~ length: over sessions, of the mean "
        "wait per turn with the output tokens. Longest wait: of all seeds; else medians over the "
        "seeds.",
    )
    cells = [_service_cells(row) for row in rows]
    return Grid(_SERVICE_HEADERS, cells, notes, frozenset(last_of_rates.values()))


def waste_grid(runs: Sequence[RunReport]) -> Iterator[Grid]:
    """Waste of device memory, if any engine has measured it."""
    rows = [(row, row.waste) for row in policy_rows(runs) if row.waste is not None]
    if not rows:
        return
    last_of_rates = {row.rate: number for number, (row, _) in enumerate(rows)}
    cells = [
        [
            row.policy,
            f"{row.rate:g}",
            *(
                f"{share:.1%}"
                for share in (
                    waste.held,
                    waste.recomputed,
                    waste.copied,
                    waste.held + waste.recomputed + waste.copied,
                )
            ),
        ]
        for row, waste in rows
    ]
    note = (
        "Shares of device memory x time: held by paused contexts; idle while tokens are computed "
        "again; idle for copies. Medians over the seeds."
    )
    yield Grid(_WASTE_HEADERS, cells, [note], frozenset(last_of_rates.values()))


def _workload_line(settings: ComparisonSettings) -> str:
    shared = settings.shared_prefix_tokens
    sharing = f"the first {shared} tokens shared by class" if shared else "unique prompts"
    return (
        f"Workload {Path(settings.workload).name}: {settings.extent}, "
        f"{len(settings.seeds)} seeds, lengths x {settings.scale_tokens:g}, "
        f"pauses x {settings.scale_pauses:g}, {sharing}; "
        f"{_memory(settings)}."
    )


def _memory(settings: ComparisonSettings) -> str:
    if settings.kv_memory_bytes is None:
        return "memory as the servers have it"
    return (
        f"KV memory {format_size(settings.kv_memory_bytes)}, "
        f"host memory {format_size(settings.host_memory_bytes)}"
    )


def _notes(rows: Sequence[PolicyRow], runs: Sequence[RunReport]) -> list[str]:
    notes = list(_NOTES)
    unfinished = [row for row in rows if row.completed < row.sessions]
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
        UNKNOWN if share is None else f"{share:.1%}",
        _ratio(row.ratio),
    ]


def _service_cells(row: PolicyRow) -> list[str]:
    return [
        row.policy,
        f"{row.rate:g}",
        _number(row.goodput_per_second),
        _seconds(row.first_ttft_ms.p95),
        _seconds(row.resume_ttft_ms.p95),
        _seconds(row.resume_ttft_ms.p99),
        _number(row.completion_s.p95),
        _number(row.longest_wait_s),
        _correlation(row.wait_context_correlation),
        _correlation(row.wait_length_correlation),
    ]


def _seconds(ms: float | None) -> str:
    return _number(None if ms is None else ms / 1000)


def _correlation(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}"


def _number(value: float | None) -> str:
    """About three significant digits."""
    if value is None:
        return UNKNOWN
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return UNKNOWN
    spread = "1 seed" if ratio.seeds == 1 else f"{_number(ratio.low)}–{_number(ratio.high)}"
    return f"{_number(ratio.median)} ({spread})" + ("" if ratio.complete else "*")
