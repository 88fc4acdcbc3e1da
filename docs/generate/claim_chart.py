"""Draw docs/claim.png from recorded runs: stock vLLM beside Caesura.

Run it from the root of a checkout: `python docs/generate/claim_chart.py`.
"""

import json
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "benchmarks" / "results" / "min_waste.json"
CHART = ROOT / "docs" / "claim.png"
ARMS = {
    "stock": ("stock vLLM 0.32 (prefix caching)", "#9aa0a6"),
    "infercept": ("InferCept's policy, in Caesura", "#7fb3d5"),
    "min-waste": ("Caesura, min-waste (default)", "#1f618d"),
}


def latency_ms(run: dict[str, Any]) -> float:
    """Mean latency of a run's sessions, pauses excluded, ms per output token."""
    return float(run["normalized_latency_ms"]["mean"])


def recomputed_percent(run: dict[str, Any]) -> float:
    """Share of the tokens that a run computed which had been computed before."""
    return float(100 * run["recomputed_tokens"] / run["scheduled_tokens"])


def main() -> None:
    """Draw the chart."""
    runs = json.loads(RUNS.read_text("utf-8"))["runs"]
    rates = sorted({run["rate"] for run in runs})
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for panel, measure, title, unit in (
        (panels[0], latency_ms, "Mean latency of a session", "ms per token, without pauses"),
        (panels[1], recomputed_percent, "Work done twice", "% of all computed tokens"),
    ):
        for position, (policy, (label, colour)) in enumerate(ARMS.items()):
            for column, rate in enumerate(rates):
                values = [
                    measure(run) for run in runs if (run["policy"], run["rate"]) == (policy, rate)
                ]
                x = column + (position - 1) * 0.27
                panel.bar(x, mean(values), 0.25, color=colour, label=label if not column else None)
                panel.plot([x] * len(values), values, ".", color="black", markersize=3)
                panel.annotate(
                    f"{mean(values):.0f}",
                    (x, max(values)),
                    ha="center",
                    va="bottom",
                    fontsize=8,
                    xytext=(0, 2),
                    textcoords="offset points",
                )
        panel.set_xticks(range(len(rates)), [f"{rate:g} sessions/s" for rate in rates])
        panel.set_title(title, fontsize=10)
        panel.set_ylabel(unit, fontsize=8)
        panel.margins(y=0.12)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(CHART, dpi=160)


if __name__ == "__main__":
    main()
