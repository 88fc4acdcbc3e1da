"""Tables for the documentation from recorded runs.

    python benchmarks/tables.py benchmarks/results/min_waste.json ...

Runs of several files are put together; a ratio to stock pairs runs of the same file, rate and seed.
Files of different versions or commits are refused: their runs are of different programs.
"""

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ORDER = (
    "stock",
    "stock-no-cache",
    "stock-host",
    "end",
    "discard",
    "preserve",
    "swap",
    "ttl",
    "infercept",
    "min-waste",
    "infinite",
)


@dataclass(frozen=True)
class Run:
    """One run and the file that it stands in."""

    file: str
    figures: dict[str, Any]

    @property
    def mean_ms(self) -> float:
        """Mean normalized latency."""
        return float(self.figures["normalized_latency_ms"]["mean"])


def load(paths: list[str]) -> dict[tuple[float, str], list[Run]]:
    """Runs by rate and policy.

    Raises:
        SystemExit: the files are not of one version and commit.
    """
    runs: dict[tuple[float, str], list[Run]] = defaultdict(list)
    sources: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in paths:
        results = json.loads(Path(path).read_text())
        source = (str(results.get("version")), str(results.get("commit")))
        sources[source].append(path)
        for figures in results["runs"]:
            runs[figures["rate"], figures["policy"]].append(Run(path, figures))
    if len(sources) > 1:
        mixed = "\n".join(
            f"  version {version}, commit {commit}: {', '.join(files)}"
            for (version, commit), files in sources.items()
        )
        raise SystemExit(f"these files are of different programs; record them anew:\n{mixed}")
    return runs


def ratios(runs: list[Run], baseline: list[Run]) -> list[float]:
    """Stock's mean over each run's, where stock ran beside it."""
    stock = {(run.file, run.figures["seed"]): run.mean_ms for run in baseline}
    keys = [(run.file, run.figures["seed"]) for run in runs]
    return [stock[key] / run.mean_ms for key, run in zip(keys, runs, strict=True) if key in stock]


def recomputed(runs: list[Run]) -> str:
    """Share of all scheduled tokens that were computed before."""
    pairs = [(run.figures["recomputed_tokens"], run.figures["scheduled_tokens"]) for run in runs]
    if any(tokens is None for tokens, _ in pairs):
        return "–"
    return f"{100 * sum(t for t, _ in pairs) / sum(s for _, s in pairs):.0f} %"


def median(runs: list[Run], figure: str, part: str | None = None, places: str = ".3g") -> str:
    """Of a figure over the runs that know it; a dash if none does."""
    values = [run.figures.get(figure) for run in runs]
    if part is not None:
        values = [value.get(part) for value in values if value is not None]
    known = [value for value in values if value is not None]
    return format(statistics.median(known), places) if known else "–"


def latency_cells(runs: list[Run], baseline: list[Run]) -> tuple[str, ...]:
    """Medians over the runs, but the mean of the means."""
    paired = [] if runs[0].figures["policy"] == "stock" else ratios(runs, baseline)
    ratio = ""
    if paired:
        ratio = f"{statistics.median(paired):.1f} ({min(paired):.1f} to {max(paired):.1f})"
    resume = [median(runs, "resume_ttft_ms", part, ".0f") for part in ("p50", "mean")]
    return (
        median(runs, "normalized_latency_ms", "p50", ".1f"),
        f"{statistics.fmean(run.mean_ms for run in runs):.1f}",
        median(runs, "normalized_latency_ms", "p90", ".0f"),
        " / ".join(resume),
        median(runs, "completed_per_second"),
        recomputed(runs),
        ratio,
    )


def service_cells(runs: list[Run], baseline: list[Run]) -> tuple[str, ...]:
    """Medians over the runs, but the longest wait of all."""
    goodput = [run.figures["goodput_per_second"] for run in runs]
    waits = [run.figures["longest_wait_s"] for run in runs]
    longest = max((wait for wait in waits if wait is not None), default=None)
    completion = [median(runs, "completion_s", part, ".1f") for part in ("p50", "p95", "p99")]
    return (
        f"{statistics.median(goodput):.2f} ({min(goodput):.2f} to {max(goodput):.2f})",
        median(runs, "first_ttft_ms", "p95", ".0f"),
        " / ".join(median(runs, "resume_ttft_ms", part, ".0f") for part in ("p95", "p99")),
        " / ".join(completion),
        "–" if longest is None else f"{longest:.1f}",
        median(runs, "wait_context_correlation", places=".2f"),
        median(runs, "wait_length_correlation", places=".2f"),
        " / ".join(median(runs, "waste", part, ".1%") for part in ("held", "recomputed", "copied")),
    )


LATENCIES = (
    "ms/token p50",
    "mean",
    "p90",
    "resume TTFT p50 / mean, ms",
    "completed/s",
    "recomputed",
    "stock / policy",
)
SERVICE = (
    "goodput/s",
    "first TTFT p95, ms",
    "resume TTFT p95 / p99, ms",
    "completion p50 / p95 / p99, s",
    "longest wait, s",
    "wait ~ context",
    "wait ~ length",
    "waste: held / recomputed / copied",
)


def show(
    runs: dict[tuple[float, str], list[Run]],
    headers: tuple[str, ...],
    cells: Callable[[list[Run], list[Run]], tuple[str, ...]],
) -> None:
    """Print a table with a row for each rate and policy."""
    columns = ("sessions/s", "policy", "runs", *headers)
    print(f"| {' | '.join(columns)} |")
    print("|" + "---|" * len(columns))
    policies = sorted({policy for _, policy in runs}, key=place)
    for rate in sorted({rate for rate, _ in runs}):
        for policy in policies:
            of_policy = runs.get((rate, policy))
            if of_policy:
                baseline = runs.get((rate, "stock"), [])
                first = (f"{rate:g}", policy, str(len(of_policy)))
                print(f"| {' | '.join((*first, *cells(of_policy, baseline)))} |")


def place(policy: str) -> tuple[int, str]:
    """The usual ones in their order, then others by name."""
    return (ORDER.index(policy) if policy in ORDER else len(ORDER), policy)


def main(paths: list[str]) -> None:
    """Print the tables."""
    runs = load(paths)
    show(runs, LATENCIES, latency_cells)
    served = {
        key: [run for run in of_policy if run.figures.get("goodput_per_second") is not None]
        for key, of_policy in runs.items()
    }
    if any(served.values()):
        print()
        show(served, SERVICE, service_cells)


if __name__ == "__main__":
    main(sys.argv[1:])
