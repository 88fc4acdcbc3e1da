"""Killed at any moment, nothing is lost and nothing is done twice."""

import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parent / "crash_run.py"


def test_sessions_survive_being_killed(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(RUN),
        str(tmp_path / "runs"),
        "--kills",
        "25",
        "--sessions",
        "30",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("25 kills in ")
