"""Killed at any moment, nothing is lost and nothing is done twice."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.draws import seeds

RUN = Path(__file__).parent / "crash_run.py"


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", seeds(1))
def test_sessions_survive_being_killed(tmp_path: Path, seed: int) -> None:
    command = [
        sys.executable,
        str(RUN),
        str(tmp_path / "runs"),
        "--kills",
        "25",
        "--sessions",
        "30",
        "--seed",
        str(seed),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("25 kills in ")
