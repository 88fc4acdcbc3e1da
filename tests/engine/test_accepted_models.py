"""The page of accepted models says what the check at start says."""

import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "accepted_models.py"


def test_the_page_is_as_the_script_writes_it() -> None:
    script = runpy.run_path(str(SCRIPT))
    assert script["PAGE"].read_text().endswith(script["tables"]()), (
        "what is accepted has changed: run benchmarks/accepted_models.py"
    )
