"""Two runs side by side, as a table and as a chart.

python benchmarks/abuse/compare.py BEFORE.json AFTER.json CHART.png
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_OVER_ALL = "all phases"
_GOAL = 2.0
_COLOURS = ("#c8553d", "#2a7f62")
_LABELS = ("before", "after")


def compared(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What was found of each kind, and of all of them."""
    return {**report["kinds"], _OVER_ALL: report["over_all"]}


def table(before: dict[str, Any], after: dict[str, Any]) -> str:
    """In Markdown: before → after in each cell."""
    rows = [
        "| attackers | p99 token gap, times idle | tokens per second, share of idle "
        "| worst `/health`, s | errors | server lost | memory at most, GiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, later in compared(after).items():
        earlier = compared(before).get(kind)
        pairs = [_cells(each) if each is not None else ["-"] * 6 for each in (earlier, later)]
        cells = [f"{first} → {second}" for first, second in zip(*pairs, strict=True)]
        rows.append(f"| {' | '.join([kind, *cells])} |")
    return "\n".join(rows)


def _cells(found: dict[str, Any]) -> list[str]:
    under, calm = found["attacked"], found["idle"]
    speed = under["tokens"] / under["seconds"] / (calm["tokens"] / calm["seconds"])
    health, ratio = under["health_worst_ms"], found["gap_p99_ratio"]
    return [
        "-" if ratio is None else f"{ratio:.1f}",
        f"{speed:.0%}",
        "-" if health is None else f"{health / 1000:.2g}",
        str(sum(under["errors"].values())),
        ", ".join(under["losses"]) or "no",
        f"{under['memory_mib'] / 1024:.1f}",
    ]


def chart(before: dict[str, Any], after: dict[str, Any], file: Path) -> None:
    """Bars of the 99th percentile of token gaps, and of the longest wait for `/health`."""
    kinds = list(reversed(compared(after)))
    figure, (gaps, health) = plt.subplots(1, 2, figsize=(9, 4.6), sharey=True)
    for offset, colour, label, report in zip(
        (0.2, -0.2), _COLOURS, _LABELS, (before, after), strict=True
    ):
        found = compared(report)
        places = [row + offset for row, kind in enumerate(kinds) if kind in found]
        known = [found[kind] for kind in kinds if kind in found]
        ratios = [each["gap_p99_ratio"] or 0 for each in known]
        waits = [(each["attacked"]["health_worst_ms"] or 0) / 1000 for each in known]
        lost = [place for place, each in zip(places, known, strict=True) if _is_lost(each)]
        gaps.barh(places, ratios, 0.38, color=colour, label=label)
        health.barh(places, waits, 0.38, color=colour, label=label)
        for place in lost:
            where = gaps.get_yaxis_transform()
            gaps.text(0.98, place, "server lost", transform=where, ha="right", va="center", size=7)
    gaps.axvline(_GOAL, color="black", linewidth=0.8, linestyle=":")
    gaps.set(xscale="log", xlabel="p99 gap between tokens, times idle")
    health.set(xscale="log", xlabel="longest wait for /health, s")
    gaps.set_yticks(range(len(kinds)), kinds)
    gaps.legend(loc="lower right")
    for axes in (gaps, health):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=130)


def _is_lost(found: dict[str, Any]) -> bool:
    return bool(found["attacked"]["losses"])


def main() -> None:
    """Read both files, draw, and show the table."""
    before, after, file = map(Path, sys.argv[1:])
    reports = [json.loads(each.read_text()) for each in (before, after)]
    chart(*reports, file)
    print(table(*reports))


if __name__ == "__main__":
    main()
