"""Function calling in virtual time: from the command to the file, and against the theory."""

import json
from pathlib import Path
from typing import Any

import pytest

from caesura import cli
from caesura.errors import CaesuraError

TOOL = {
    "name": "ls",
    "description": "Lists files.",
    "parameters": {"type": "dict", "properties": {"path": {"type": "string"}}},
}


def lines(path: Path, *entries: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three samples of one case: one call, two calls, three calls."""
    samples = [
        {
            "id": f"m{count}",
            "question": [[{"role": "user", "content": f"List {count} folders."}]],
            "involved_classes": ["GorillaFileSystem"],
        }
        for count in (1, 2, 3)
    ]
    answers = [
        {"id": f"m{count}", "ground_truth": [[f"ls(path='{x}')" for x in range(count)]]}
        for count in (1, 2, 3)
    ]
    lines(tmp_path / "BFCL_v4_multi_turn_base.jsonl", *samples)
    lines(tmp_path / "BFCL_v4_multi_turn_base_answers.jsonl", *answers)
    lines(tmp_path / "func_doc" / "gorilla_file_system.jsonl", TOOL)
    return tmp_path


def simulated(data: Path, *options: str) -> dict[tuple[str, float], dict[str, Any]]:
    out = data / "out.json"
    command = ["simulate", "calls", "--data", str(data), "--cases", "1", "--json", str(out)]
    cli.run([*command, *options])
    written = json.loads(out.read_text())
    return {(run["mode"], run["token_ms"]): run for run in written["runs"]}


def test_modes_take_what_theory_says_and_a_few_steps_more(data: Path) -> None:
    modes = "requests,sync,sync_parallel,sync_fused,async"
    runs = simulated(data, "--modes", modes, "--token-ms", "1,10", "--request-ms", "50")
    assert {mode for mode, _ in runs} == set(modes.split(","))
    for (mode, token_ms), run in runs.items():
        step, requests = token_ms / 1000, 7 if mode == "requests" else 0
        assert run["correct"], mode
        assert run["calls"] == (3 if mode == "sync_fused" else 6)
        over = run["latency_s"] - requests * 0.05 - run["bound_s"]
        # Prompt, results and answer, and steps that were under way.
        assert 0 < over < (6 * run["calls"] + 8) * step, (mode, token_ms)
    for token_ms in (1.0, 10.0):
        assert runs["requests", token_ms]["latency_s"] == pytest.approx(
            runs["sync", token_ms]["latency_s"] + 7 * 0.05, abs=5 * token_ms / 1000
        )
        assert runs["async", token_ms]["latency_s"] < runs["sync_parallel", token_ms]["latency_s"]
        assert runs["async", token_ms]["execution_s"] == pytest.approx(
            runs["sync", token_ms]["execution_s"]
        )


def test_policies_are_compared_where_many_sessions_share_the_memory(data: Path) -> None:
    out = data / "out.json"
    command = ["simulate", "calls", "--data", str(data), "--sessions", "8", "--seeds", "0"]
    policies = ["preserve", "min-waste", "trap-rule"]
    cli.run(
        [
            *command,
            *("--policies", ",".join(policies), "--kv-tokens", "2048", "--token-ms", "5"),
            *("--json", str(out)),
        ]
    )
    runs = json.loads(out.read_text())["runs"]
    assert [run["policy"] for run in runs] == [name for name in policies for _ in range(8)]
    assert all(run["correct"] and run["mode"] == "async" for run in runs)


def test_what_is_not_simulated_is_refused(data: Path) -> None:
    with pytest.raises(CaesuraError, match="bench calls"):
        simulated(data, "--modes", "futures")
    with pytest.raises(CaesuraError, match="decides itself"):
        simulated(data, "--suite", "demo", "--modes", "sync")
