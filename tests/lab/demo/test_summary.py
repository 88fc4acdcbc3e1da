"""Figures of the demo: gains and losses, as they were recorded."""

import io
import json
from pathlib import Path

import pytest
from matplotlib.patches import Rectangle
from rich.console import Console

from caesura.cml import Mode
from caesura.lab.demo.agent.gantt import gantt_figure
from caesura.lab.demo.agent.summary import rounds, sentences, table, write_recordings
from caesura.lab.figures import save_figures
from caesura.lab.results_file import Origin
from lab.demo.recordings import all_modes, in_async, in_sync, in_sync_parallel

PNG = b"\x89PNG"


def printed(recordings: list) -> list[list[str]]:
    """The table's rows as words."""
    written = io.StringIO()
    Console(file=written, width=100).print(table(rounds(recordings)))
    return [line.split() for line in written.getvalue().splitlines()]


def test_latencies_stand_side_by_side() -> None:
    row = ["two", "tools", "2", "0.80", "1.10", "1.00", "0.88", "1.25x", "1.14x"]
    assert row in printed(all_modes())


def test_a_wrong_answer_has_no_ratio() -> None:
    recordings = [in_sync(), in_sync_parallel(), in_async("owner1: PQ27.")]
    assert ["two", "tools", "2", "0.80", "1.10", "1.00", "wrong"] in printed(recordings)
    told = " ".join(sentences(rounds(recordings), 7))
    assert "2 of 3 answers are correct" in told
    assert "(seed 7)" in told
    assert "Wrong in async mode: Who owns K4821" in told
    assert "The model wrote: <owner1> <stock1> One moment.owner1: PQ27." in told


def test_losses_are_told() -> None:
    recordings = [in_sync(), in_sync_parallel(), in_async(seconds=1.12)]
    told = " ".join(sentences(rounds(recordings), 7))
    assert "async was no faster than sync for: two tools." in told
    assert "async was slower than sync_parallel for: two tools." in told
    assert "slower" not in " ".join(sentences(rounds(all_modes()), 7))


def test_a_token_takes_the_time_in_which_nothing_is_waited_for() -> None:
    """0.3 s in sync, 0.3 s in sync_parallel, 0.58 s in async; 40 tokens each."""
    told = " ".join(sentences(rounds(all_modes()), 7))
    assert f"A token takes {1000 * (0.3 + 0.3 + 0.58) / 120:.1f} ms" in told


def test_a_question_that_was_stopped_is_in_the_file_but_not_in_the_table(tmp_path: Path) -> None:
    recordings = all_modes()[:2]
    assert rounds(recordings) == []
    path = tmp_path / "out" / "agent.json"
    write_recordings(path, recordings, Origin("caesura demo"), seed=7)
    content = json.loads(path.read_text())
    assert (content["command"], content["seed"]) == ("caesura demo", 7)
    assert [run["mode"] for run in content["runs"]] == ["sync", "sync_parallel"]
    run = content["runs"][0]
    assert run["correct"]
    assert (run["latency_s"], run["execution_s"], run["generation_s"]) == (1.1, 0.8, 0.3)
    moments = {name: run["calls"][0][f"{name}_s"] for name in ("opened", "issued", "injected")}
    assert moments == {"opened": 0.0, "issued": 0.1, "injected": 0.8}


def test_the_chart_has_a_bar_for_all_that_took_time(tmp_path: Path) -> None:
    played = rounds(all_modes())
    (panel,) = gantt_figure(played).axes
    bars = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    spans = sum(len(recording.timeline.spans) for recording in all_modes())
    calls = sum(len(recording.timeline.calls) for recording in all_modes())
    assert len(bars) == spans + 2 * calls
    assert max(bar.get_x() + bar.get_width() for bar in bars) == pytest.approx(1.1)
    labels = [text.get_text() for text in panel.get_yticklabels()]
    assert labels == ["model", "owner1 (http)", "stock1 (python)"] * len(Mode)
    texts = {text.get_text() for text in panel.texts}
    assert texts == {"sync: 1.10 s", "sync_parallel: 1.00 s", "async: 0.88 s"}
    (file,) = save_figures({"agent": gantt_figure(played)}, tmp_path / "out")
    assert file == tmp_path / "out" / "agent.png"
    assert file.read_bytes()[:4] == PNG
