import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from caesura.lab.bench.settings import BenchSettings
from caesura.lab.results_file import Origin, public_settings, source_commit, write_results


@dataclass(frozen=True)
class Settings:
    model: Path
    seed: int
    json_path: Path | None = None


def test_figures_stand_behind_their_origin(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write_results(path, Origin("caesura bench"), {"runs": [1]}, Settings(Path("/a/b"), 7, path))
    written = json.loads(path.read_text())
    assert list(written) == ["command", "machine", "commit", "version", "settings", "runs"]
    assert written["machine"]["cores"] >= 1
    assert written["settings"] == {"model": "b", "seed": 7}


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, Origin("first"), {"runs": [1.0]})
    with pytest.raises(ValueError, match="Out of range"):
        write_results(path, Origin("second"), {"runs": [float("nan")]})
    assert json.loads(path.read_text())["command"] == "first"
    write_results(path, Origin("third"), {"runs": []})
    assert json.loads(path.read_text())["command"] == "third"
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_settings_say_nothing_of_where_things_are(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.touch()
    settings = BenchSettings(
        workload=str(trace),
        policies=("stock",),
        rates=(1.0,),
        model="owner/name",
        output_dir=tmp_path,
        trace_path=tmp_path / "t.json",
    )
    public = public_settings(settings)
    assert (public["workload"], public["model"]) == ("trace.jsonl", "owner/name")
    assert public["policies"] == ["stock"]
    assert public.keys().isdisjoint({"json_path", "output_dir", "trace_path"})


def test_the_commit_is_that_of_the_source() -> None:
    here = Path(__file__).parent
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True)
    if head.returncode:
        assert source_commit() is None
    else:
        assert head.stdout.startswith(str(source_commit()).removesuffix("-dirty"))
