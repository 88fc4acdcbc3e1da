"""What a benchmark of function calling says: its tables, its page, its entries in the file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from matplotlib.figure import Figure

from caesura.lab.bench.function_calling.plots import case_figures
from caesura.lab.bench.function_calling.records import CaseRun, PlayedCase
from caesura.lab.bench.function_calling.stats import (
    ArmSummary,
    Comparison,
    Spread,
    comparisons,
    makespans,
    summaries,
)
from caesura.lab.report import Grid, Page

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


@dataclass(frozen=True, slots=True)
class FunctionCallingReport:
    """See `caesura.lab.bench.results.Report`.

    Attributes:
        suite: its name.
        skipped: reasons why cases of the suite could not be used, and how many they are.
    """

    suite: str
    skipped: Mapping[str, int]

    def entries(self, outcomes: Sequence[PlayedCase]) -> Mapping[str, object]:
        """What was skipped, and the figures of all runs."""
        return {"skipped": dict(self.skipped), "runs": [asdict(played.run) for played in outcomes]}

    def page(self, outcomes: Sequence[PlayedCase]) -> Page:
        """Both tables, and what is in neither."""
        runs = [played.run for played in outcomes]
        return Page(f"Function calling: {self.suite}", (), grids(runs), [*self._remarks(runs)])

    def figures(self, outcomes: Sequence[PlayedCase]) -> Mapping[str, Figure]:
        """The plots."""
        return case_figures(outcomes)

    def _remarks(self, runs: Sequence[CaseRun]) -> Iterator[str]:
        for (policy, seed), seconds in makespans(runs).items():
            yield f"{policy}, seed {seed}: the last session was done after {seconds:.2f} s."
        wrong = sum(not run.correct for run in runs)
        if wrong:
            yield f"{wrong} runs are not correct; they are in no figure."
        if self.skipped:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in self.skipped.items())
            yield f"Cases that could not be used: {reasons}."


def grids(runs: Sequence[CaseRun]) -> tuple[Grid, Grid]:
    """A row for each mode, order or policy, and a row for each pair of them."""
    return (
        Grid(_ARM_HEADERS, [_arm_cells(summary) for summary in summaries(runs)], _NOTES),
        Grid(_COMPARISON_HEADERS, [_comparison_cells(pair) for pair in comparisons(runs)]),
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
