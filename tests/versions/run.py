"""`make contract VLLM=0.33.0`: the tests of everything that uses vLLM, on another version of it.

The version's Python sources come from its wheel, which is checked by the hashes in
`requirements/vllm`, and stay in the user's cache. They run on the compiled libraries of the vLLM
that is installed: real engines run on the CPU too, before there is a build of that version for it.
What the version does on a GPU is not tested by that.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PINS = ROOT / "requirements" / "vllm"
# The first two take a minute, and fail first when something has changed.
QUICK = ("tests/engine/test_contract.py", "tests/engine/virtual")
EVERYTHING = (*QUICK, "tests/engine", "tests/server")
NOT_PYTHON = (".so", ".h", ".hpp", ".cuh", ".inl", ".cu", ".cpp", "/vllm-rs")


def cache_folder() -> Path:
    """Where sources stay."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches, "caesura", "vllm")


def sources(version: str) -> Path | None:
    """The folder with a version's sources; None if it was not fetched."""
    folder = cache_folder() / version
    return folder if folder.is_dir() else None


def fetch(version: str) -> Path:
    """The same, fetched from the package index if need be.

    Raises:
        SystemExit: nothing is known of this version, or it cannot be fetched.
    """
    present = sources(version)
    if present is not None:
        return present
    pins = PINS / f"{version}.txt"
    if not pins.exists():
        known = ", ".join(sorted(file.stem for file in PINS.glob("*.txt")))
        raise SystemExit(
            f"contract: {pins.relative_to(ROOT)} is missing (there are: {known}). Name the "
            f"version in {pins.with_suffix('.in').relative_to(ROOT)}, and run make lock"
        )
    cache_folder().mkdir(parents=True, exist_ok=True)
    # On the same file system: a folder of the version's name is a whole one.
    with tempfile.TemporaryDirectory(dir=cache_folder()) as staging:
        wheels, unpacked = Path(staging, "wheels"), Path(staging, "sources")
        print(f"contract: fetching vLLM {version} into {cache_folder()}", flush=True)
        download = [
            *(sys.executable, "-m", "pip", "download", "--no-cache-dir", "--progress-bar", "on"),
            *("--no-deps", "--only-binary", ":all:", "--require-hashes"),
            *("--requirement", str(pins), "--dest", str(wheels)),
        ]
        if subprocess.run(download).returncode:
            raise SystemExit(f"contract: vLLM {version} cannot be fetched")
        for wheel in wheels.iterdir():
            unpack(wheel, unpacked)
        unpacked.rename(cache_folder() / version)
    return cache_folder() / version


def unpack(wheel: Path, folder: Path) -> None:
    """A wheel's packages; of vLLM's, what is not compiled. Without what says that it is installed:
    metadata of a second vLLM would have both asked for their plug-ins."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            package = name.partition("/")[0]
            skipped = package.endswith(".dist-info") or (
                package == "vllm" and name.endswith(NOT_PYTHON)
            )
            if not skipped:
                archive.extract(name, folder)


def link_compiled(package: Path) -> None:
    """Put the installed vLLM's libraries beside another one's sources."""
    installed = importlib.util.find_spec("vllm")
    assert installed is not None
    assert installed.origin is not None
    libraries = {
        library.name: library.resolve() for library in Path(installed.origin).parent.glob("*.so")
    }
    for link in package.glob("*.so"):  # another process may use those that are right
        if libraries.get(link.name) == link.resolve():
            del libraries[link.name]
        else:
            link.unlink()
    for name, library in libraries.items():
        (package / name).symlink_to(library)


def environment(tree: Path) -> Mapping[str, str]:
    """The environment of a process that imports vLLM from these sources."""
    paths = [str(tree), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    # Without metadata vLLM does not see which build it is.
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "VLLM_TARGET_DEVICE": "cpu"}


def run(version: str, tests: Sequence[str]) -> int:
    """Run tests on a version's sources; pytest's status."""
    tree = fetch(version)
    link_compiled(tree / "vllm")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=ROOT, env=environment(tree)).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version", help="of vLLM, such as 0.33.0")
    parser.add_argument("tests", nargs="*", default=EVERYTHING, help="such as tests/engine/virtual")
    options = parser.parse_args()  # flags of pytest are in PYTEST_ADDOPTS
    return run(options.version, options.tests)


if __name__ == "__main__":
    sys.exit(main())
