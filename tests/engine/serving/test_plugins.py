"""`caesura serve` turns on its own endpoint plug-in, and leaves the user's as they are."""

import logging
import os
from pathlib import Path

import pytest

from caesura.engine.serving.serve import allow_plugin

OTHERS = """
[vllm.general_plugins]
my_models = my_package:register

[vllm.platform_plugins]
my_device = my_package:platform

[vllm.endpoint_plugins]
my_routes = my_package:Routes
"""
OURS = "[vllm.endpoint_plugins]\ncaesura = caesura.server.plugin:CaesuraPlugin\n"


def install(folder: Path, name: str, entry_points: str) -> None:
    """What an installed distribution leaves for `importlib.metadata`."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(tmp_path, "my_package", OTHERS)
    install(tmp_path, "caesura", OURS)
    monkeypatch.syspath_prepend(tmp_path)
    # Whatever is set within a test is put back after it.
    monkeypatch.setenv("VLLM_PLUGINS", "")


def named() -> set[str]:
    return set(os.environ["VLLM_PLUGINS"].split(","))


def test_what_vllm_loads_of_itself_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_PLUGINS")
    allow_plugin()
    assert {"caesura", "my_models", "my_device"} <= named()
    assert "my_routes" not in named(), "vLLM loads endpoint plug-ins only where they are named"


@pytest.mark.parametrize("before", ["", "my_models", "my_routes,caesura"])
def test_what_the_user_names_stays(monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", before)
    allow_plugin()
    assert named() == {"caesura", *filter(None, before.split(","))}


def test_an_installation_without_the_plugin_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "caesura-1.0.dist-info" / "entry_points.txt").write_text("")
    with caplog.at_level(logging.WARNING, logger="caesura.engine.serving.serve"):
        allow_plugin()
    assert "Install Caesura again" in caplog.text
