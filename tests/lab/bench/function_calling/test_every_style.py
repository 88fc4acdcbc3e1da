"""All that is compared, from the command to the file: real engines, a real server."""

import json
from pathlib import Path
from typing import Any

import pytest

from caesura import cli
from caesura.lab.bench.function_calling.styles import Style

pytestmark = pytest.mark.engine

TOOL = {
    "name": "weather.now",
    "description": "Tells the weather.",
    "parameters": {"type": "dict", "properties": {"city": {"type": "string"}}},
}
CALLS = [{"weather.now": {"city": [city]}} for city in ("Oslo", "Zürich", "Oslo")]


def lines(path: Path, *entries: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    question = [[{"role": "user", "content": "Is it warm?"}]]
    sample = {"id": "p0", "question": question, "function": [TOOL]}
    lines(tmp_path / "BFCL_v4_parallel.jsonl", sample)
    lines(tmp_path / "BFCL_v4_parallel_answers.jsonl", {"id": "p0", "ground_truth": CALLS})
    for name in ("live_parallel", "live_parallel_answers"):
        lines(tmp_path / f"BFCL_v4_{name}.jsonl")
    return tmp_path


def test_a_known_answer_is_written_in_every_style(data: Path) -> None:
    out = data / "out.json"
    cli.run(
        [
            *("bench", "calls", "--suite", "bfcl-parallel", "--data", str(data)),
            *("--modes", ",".join(Style), "--cases", "1", "--latency", "uniform:0.02:0.04"),
            *("--json", str(out)),
        ]
    )
    written = json.loads(out.read_text())
    runs = {run["mode"]: run for run in written["runs"]}
    assert list(runs) == list(Style)
    assert all(run["correct"] for run in runs.values())
    for style, run in runs.items():
        assert run["calls"] == 3, style
        assert 0 < run["generation_s"] < run["latency_s"], style
        assert 0 < run["bound_s"] < run["latency_s"], style
    assert runs["sync_cached"]["execution_s"] < 0.9 * runs["sync"]["execution_s"]
    in_native_format = {style for style, run in runs.items() if not run["cml_tokens"]}
    assert in_native_format == {Style.REQUESTS, Style.FUTURES}
