"""Tables of recorded runs."""

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from caesura.lab.bench.stats import RunReport
from support.lab.bench_records import outcome

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tables.py"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(path: Path, *runs: RunReport, **entries: str) -> str:
    written: dict[str, Any] = {"version": "1.0", "commit": "abc", **entries}
    path.write_text(json.dumps({**written, "runs": [asdict(run) for run in runs]}))
    return str(path)


def test_files_of_different_versions_or_commits_are_not_put_together(
    tables: ModuleType, tmp_path: Path
) -> None:
    run = outcome("stock", 0, 1.0, 1.0).report
    first = write(tmp_path / "first.json", run)
    same = write(tmp_path / "same.json", run)
    assert len(tables.load([first, same])[1.0, "stock"]) == 2
    for change in ({"version": "1.1"}, {"commit": "def"}):
        other = write(tmp_path / "other.json", run, **change)
        with pytest.raises(SystemExit, match=r"different programs(.|\n)*other\.json"):
            tables.load([first, other])


def test_rows_have_medians_and_ratios_to_stock(
    tables: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        outcome(policy, seed, 2.0, latency * (1 + seed)).report
        for policy, latency in (("mine", 0.4), ("stock", 0.8))
        for seed in (0, 1)
    ]
    tables.main([write(tmp_path / "runs.json", *runs)])
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| 2 ")
    ]
    stock, mine, stock_service, mine_service = rows
    assert stock[:5] == ["2", "stock", "2", "150.0", "150.0"]
    assert mine[:5] == ["2", "mine", "2", "75.0", "75.0"]
    assert mine[-1] == "2.0 (2.0 to 2.0)"
    assert stock_service[3] == "1.00 (0.00 to 2.00)"  # 0.8 s are in time, 1.6 s are not
    assert mine_service[3] == "2.00 (2.00 to 2.00)"
