"""What a simulation says: as a comparison, and of several engines how they shared the work."""

import statistics
from collections.abc import Sequence
from dataclasses import replace

from caesura.lab.bench.report import ComparisonReport
from caesura.lab.bench.stats import RunOutcome
from caesura.lab.report import UNKNOWN, Grid, Page
from caesura.lab.sim.simulation import SimulatedRunReport

_HEADERS = ("policy", "sessions\n/s", "router", "turns\nmoved", "least\ntokens", "most\ntokens")


class FleetReport(ComparisonReport):
    """See `caesura.lab.bench.results.Report`."""

    def page(self, outcomes: Sequence[RunOutcome]) -> Page:
        """As of any comparison, with a table of the engines if there are several."""
        page = super().page(outcomes)
        reports = [o.report for o in outcomes if isinstance(o.report, SimulatedRunReport)]
        if all(report.engines == 1 for report in reports):
            return page
        return replace(page, grids=[*page.grids, engines_grid(reports)])


def engines_grid(runs: Sequence[SimulatedRunReport]) -> Grid:
    """How the engines shared the work: a row for each policy and rate."""
    rows: dict[tuple[float, str], list[SimulatedRunReport]] = {}
    for run in runs:
        rows.setdefault((run.rate, run.policy), []).append(run)
    engines = runs[0].engines
    note = (
        f"{engines} engines: sessions/s, done/s and good/s are per engine. Turns moved: of "
        "returning turns, those that went to another engine. Tokens: computed by the engine with "
        "the fewest and with the most, over the mean. Medians over the seeds."
    )
    cells = []
    for (rate, policy), of_row in sorted(rows.items(), key=lambda row: row[0][0]):
        moved = [run.moved_turns_share for run in of_row if run.moved_turns_share is not None]
        spreads = [run.computed_tokens for run in of_row]
        cells.append(
            [
                policy,
                f"{rate:g}",
                of_row[0].router,
                f"{statistics.median(moved):.1%}" if moved else UNKNOWN,
                f"{statistics.median(spread.lowest / spread.mean for spread in spreads):.2f}",
                f"{statistics.median(spread.highest / spread.mean for spread in spreads):.2f}",
            ]
        )
    return Grid(_HEADERS, cells, [note])
