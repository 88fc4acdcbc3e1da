"""The examples run as a reader would run them."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.engine
def test_pause_and_interrupt() -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "pause_and_interrupt.py")],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "-- paused (length)" in result.stdout
    assert "-- interrupted" in result.stdout
