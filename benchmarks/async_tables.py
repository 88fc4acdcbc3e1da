"""Markdown tables of what `caesura bench calls --json` wrote.

python benchmarks/async_tables.py benchmarks/results/async/*.json
"""

import json
import statistics
import sys
from pathlib import Path

from caesura.lab.bench.function_calling.records import CaseRun
from caesura.lab.bench.function_calling.report import grids
from caesura.lab.bench.function_calling.stats import makespans, summaries


def main() -> None:
    """Print the tables of each file that has runs."""
    for name in sys.argv[1:]:
        results = json.loads(Path(name).read_text())
        if not isinstance(results, dict):
            continue
        print(f"\n{Path(name).name}\n\n```\n{results['command']}\n```")
        of_speed: dict[float | None, list[CaseRun]] = {}
        for run in results["runs"]:
            of_speed.setdefault(run.pop("token_ms", None), []).append(CaseRun(**run))
        for token_ms, runs in of_speed.items():
            if token_ms is not None:
                print(f"\n{token_ms:g} ms per token:")
            show(runs)


def show(runs: list[CaseRun]) -> None:
    """Print the tables of runs that belong together."""
    print()
    print("\n\n".join(grid.as_markdown() for grid in grids(runs)))
    cml = {summary.name: f"{summary.cml_tokens:.2f}" for summary in summaries(runs)}
    print(f"\nTokens of CML per call: {cml}")
    spans = makespans(runs)
    for policy in dict.fromkeys(policy for policy, _ in spans):
        seconds = [span for (of_policy, _), span in spans.items() if of_policy == policy]
        shown = ", ".join(f"{one:.2f}" for one in seconds)
        print(f"\n{policy}: all done after {shown} s (mean {statistics.fmean(seconds):.2f})")


if __name__ == "__main__":
    main()
