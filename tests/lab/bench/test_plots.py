from pathlib import Path

import numpy as np
import pytest

from caesura.lab.bench.engines import EngineCounters
from caesura.lab.bench.plots import ecdf_figure, latency_figure, run_figures, timeline_figure
from caesura.lab.bench.replay import ReplayedSession
from caesura.lab.bench.stats import RunOutcome, RunPlan, measure
from caesura.lab.figures import save_figures
from support.lab.bench_records import (
    YARDSTICK,
    completed_session,
    cut_session,
    outcome,
    replay_of,
    unstarted_session,
)

OUTCOMES = [
    outcome(policy, seed, rate, latency * rate, completed_session(0.2, latency), cut_session(0.5))
    for seed in (0, 1)
    for rate in (1.0, 2.0)
    for policy, latency in (("stock", 1.0 + seed), ("ours", 0.5))
]


def test_plots_are_saved_as_png(tmp_path: Path) -> None:
    files = save_figures(run_figures(OUTCOMES), tmp_path / "new")
    assert [file.name for file in files] == [
        "latency.png",
        "latency_ecdf.png",
        "rates.png",
        "timeline.png",
    ]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def test_latency_is_the_median_over_seeds_with_bars_to_the_extremes() -> None:
    (axes,) = latency_figure(OUTCOMES).axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["stock", "ours"]
    points = np.asarray(axes.lines[0].get_xydata())
    assert list(points[:, 0]) == [1.0, 2.0]
    runs = [o.report for o in OUTCOMES if o.plan.policy == "stock" and o.plan.rate == 2.0]
    means = [run.normalized_latency_ms.mean or 0.0 for run in runs]
    assert points[1, 1] == pytest.approx(sum(means) / 2)
    assert "ms" in axes.get_ylabel()
    assert "sessions/s" in axes.get_xlabel()


def test_the_ecdf_ends_at_the_share_of_sessions_that_completed() -> None:
    panels = ecdf_figure(OUTCOMES).axes
    assert [axes.get_title() for axes in panels] == ["1 sessions/s", "2 sessions/s"]
    shares = np.asarray(panels[0].lines[0].get_ydata())
    assert shares[0] == 0
    assert shares[-1] == pytest.approx(2 / 3)


def test_the_timeline_has_a_panel_for_each_policy_and_names_what_is_waited_for() -> None:
    figure = timeline_figure(OUTCOMES)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["stock", "ours"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["generating", "waiting for first token", "paused: calculator"]
    assert "2 sessions/s, seed 0" in figure.axes[-1].get_xlabel()


@pytest.mark.parametrize("session", [unstarted_session(0.0), cut_session(0.0)])
def test_plots_of_runs_without_a_completed_session_are_drawn(
    tmp_path: Path, session: ReplayedSession
) -> None:
    plan, replay = RunPlan("stock", 0, 1.0), replay_of(session)
    report = measure(plan, replay, EngineCounters(), YARDSTICK)
    assert save_figures(run_figures([RunOutcome(plan, replay, report)]), tmp_path)
