"""Packages that only some commands need: which they are, and what is said where they are not."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from caesura.bundled import CML_MODEL
from caesura.cli.extras import PACKAGES, Extra

ROOT = Path(__file__).parents[2]
LABORATORY = [
    "demo",
    "bench",
    "bench calls",
    "simulate",
    "simulate calls",
    "calibrate",
    "calibrate trace trace.json --base profile.json",
    "train base",
    "train evaluate model",
    "train demo",
]


def without(package: str, *commands: str) -> list[str]:
    """What commands say in a program that cannot import a package."""
    program = f"""
import sys
sys.modules[{package!r}] = None
from caesura.cli.main import main
for command in {list(commands)}:
    sys.argv = ["caesura", *command.split()]
    try:
        main()
    except SystemExit as end:
        assert end.code == 2, end
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def test_the_extras_are_those_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = {
        extra: {re.split(r"[\s<>=\[]", requirement)[0] for requirement in extras[extra]}
        for extra in Extra
    }
    assert set(PACKAGES[Extra.LAB]) == names["lab"]
    assert set(PACKAGES[Extra.TRAIN]) == names["train"] - {"caesura"} | names["lab"]
    assert not names["lab"] & set(project["dependencies"])


@pytest.mark.parametrize("package", PACKAGES[Extra.LAB])
def test_the_laboratory_says_how_to_install_what_it_needs(package: str) -> None:
    said = without(package, *LABORATORY)
    assert len(said) == len(LABORATORY)
    for line in said:
        assert f"this command needs {package}: " in line
        assert re.search(r'pip install "caesura\[(lab|train)\]"$', line)


def test_fine_tuning_has_an_extra_of_its_own() -> None:
    (said,) = without("trl", "train base")
    assert said == ('error: this command needs trl: pip install "caesura[train]"')


def test_without_vllm_a_server_says_which_builds_there_are() -> None:
    said = without("vllm", f"serve {CML_MODEL}")
    assert said[-1].endswith('pip install "caesura[cpu]" or "caesura[gpu]"')
