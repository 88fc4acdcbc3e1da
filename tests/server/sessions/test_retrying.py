"""Killed at any moment, the server does once what its clients ask for again and again."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.draws import seeds

RUN = Path(__file__).parent / "retrying_run.py"


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", seeds(1))
@pytest.mark.parametrize("more", [[], ["--faults"]], ids=["", "faults"])
def test_requests_that_are_sent_again_are_carried_out_once(
    tmp_path: Path, seed: int, more: list[str]
) -> None:
    options = ["--kills", "10", "--sessions", "20", "--seed", str(seed), *more]
    command = [sys.executable, str(RUN), str(tmp_path / "runs"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("10 kills in ")
