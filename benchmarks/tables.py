"""Tables for the documentation from recorded runs.

    python benchmarks/tables.py benchmarks/results/infercept_sample.json ...

Runs of several files are put together; a ratio to stock pairs runs of the same file, rate and seed.
"""

import json
import statistics
import sys
from collections import defaultdict
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
    """Runs by rate and policy."""
    runs: dict[tuple[float, str], list[Run]] = defaultdict(list)
    for path in paths:
        for figures in json.loads(Path(path).read_text())["runs"]:
            runs[figures["rate"], figures["policy"]].append(Run(path, figures))
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


def row(rate: float, policy: str, runs: list[Run], baseline: list[Run]) -> str:
    """One line of the table: medians over the runs, but the mean of the means."""

    def median(figure: str, part: str | None = None) -> float:
        values = [run.figures[figure] for run in runs]
        return statistics.median(value[part] if part else value for value in values)

    paired = [] if policy == "stock" else ratios(runs, baseline)
    ratio = ""
    if paired:
        ratio = f"{statistics.median(paired):.1f} ({min(paired):.1f} to {max(paired):.1f})"
    cells = (
        f"{rate:g}",
        policy,
        str(len(runs)),
        f"{median('normalized_latency_ms', 'p50'):.1f}",
        f"{statistics.fmean(run.mean_ms for run in runs):.1f}",
        f"{median('normalized_latency_ms', 'p90'):.0f}",
        f"{median('resume_ttft_ms', 'p50'):.0f} / {median('resume_ttft_ms', 'mean'):.0f}",
        f"{median('completed_per_second'):.3g}",
        recomputed(runs),
        ratio,
    )
    return "| " + " | ".join(cells) + " |"


def main(paths: list[str]) -> None:
    """Print the table."""
    runs = load(paths)
    print(
        "| sessions/s | policy | runs | ms/token p50 | mean | p90 | resume TTFT p50 / mean, ms "
        "| completed/s | recomputed | stock / policy |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for rate in sorted({rate for rate, _ in runs}):
        for policy in ORDER:
            if (rate, policy) in runs:
                print(row(rate, policy, runs[rate, policy], runs.get((rate, "stock"), [])))


if __name__ == "__main__":
    main(sys.argv[1:])
