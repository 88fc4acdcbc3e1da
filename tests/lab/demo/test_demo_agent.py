"""The demo's agent, as it is shown: real engine, real tools, values that nobody has seen."""

import io
import json
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from caesura.cml import Mode
from caesura.errors import ConfigurationError
from caesura.lab.demo.agent.play import Recording
from caesura.lab.demo.agent.run import AgentSettings, run_agent
from caesura.session.calling import Ending
from support.forks import engines_forked

pytestmark = pytest.mark.engine


def overlap(recording: Recording) -> bool:
    """Whether a call was issued before the one before it had its result."""
    calls = recording.timeline.calls
    return any(later.issued_at < earlier.injected_at for earlier, later in pairwise(calls))


def test_an_agent_answers_in_each_mode(tmp_path: Path) -> None:
    written = io.StringIO()
    settings = AgentSettings(out=tmp_path, seed=5, questions=2)
    with engines_forked():
        recordings = run_agent(settings, "caesura demo", Console(file=written, width=120))

    assert [recording.mode for recording in recordings] == [*Mode, *Mode]
    for recording in recordings:
        assert recording.timeline.ending is Ending.COMPLETED
        if recording.mode is not Mode.ASYNC:  # there, what the model reads depends on the clock
            assert recording.mistakes == [], recording.written
        assert overlap(recording) is (recording.mode is not Mode.SYNC)
    assert sum(not recording.mistakes for recording in recordings) >= 5

    content = json.loads((tmp_path / "agent.json").read_text())
    assert [run["mode"] for run in content["runs"]] == [mode.value for mode in [*Mode, *Mode]]
    assert (tmp_path / "agent.png").stat().st_size > 10_000
    assert "of 6 answers are correct" in written.getvalue()
    assert written.getvalue().count("◆") >= 6 * 3


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    settings = AgentSettings(out=tmp_path, seed=5, model=tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match="caesura train demo"):
        run_agent(settings, "caesura demo", Console(quiet=True))
