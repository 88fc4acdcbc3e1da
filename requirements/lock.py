"""Resolve cpu.in to cpu.lock: exact versions of everything that the CPU set-up installs.

Run it with `make lock`. Versions already in cpu.lock are kept where they still fit; `--upgrade`
takes the newest of everything. Some packages that vLLM or its dependencies name are left out,
with whatever only they need; see LEFT_OUT. Hence the lock must be installed with `--no-deps`.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).resolve().parent
INPUT, LOCK = FOLDER / "cpu.in", FOLDER / "cpu.lock"
LEFT_OUT = {
    "torchvision": "its builds are for CUDA and break transformers beside a CPU torch",
    "torchaudio": "likewise",
    "torchcodec": "likewise",
    "triton": "1 GB of GPU compiler; xgrammar names it, and uses it for GPU tensors only",
}


@dataclass(frozen=True, slots=True)
class Resolved:
    """One package in the resolver's answer."""

    name: str
    version: str
    requires: tuple[Requirement, ...]


def requirements(lines: Iterable[str]) -> Iterator[Requirement]:
    """Yield the requirements in the lines of a requirements file."""
    for line in lines:
        if text := line.split("#")[0].strip():
            yield Requirement(text)


def resolve(constraints: Iterable[str]) -> dict[str, Resolved]:
    """Ask pip which packages INPUT needs, without installing any.

    Raises:
        subprocess.CalledProcessError: pip found no solution; it has said why on stderr.
    """
    with tempfile.TemporaryDirectory() as scratch:
        report, constraint_file = Path(scratch, "report.json"), Path(scratch, "constraints.txt")
        constraint_file.write_text("\n".join(constraints))
        command = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run"]
        command += ["--ignore-installed", "--report", str(report)]
        command += ["--constraint", str(constraint_file), "--requirement", str(INPUT)]
        subprocess.run(command, check=True)
        answer = json.loads(report.read_text())
    packages = (item["metadata"] for item in answer["install"])
    return {
        canonicalize_name(package["name"]): Resolved(
            package["name"],
            package["version"],
            tuple(map(Requirement, package.get("requires_dist", []))),
        )
        for package in packages
    }


def needed(roots: Iterable[Requirement], packages: dict[str, Resolved]) -> list[Resolved]:
    """Return the packages that `roots` reach without passing through one that is left out."""
    reached: set[tuple[str, str]] = set()  # package and extra; "" stands for none
    queue = list(roots)
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name in LEFT_OUT:
            continue
        for extra in {"", *requirement.extras}:
            if (name, extra) not in reached:
                reached.add((name, extra))
                queue += [
                    child
                    for child in packages[name].requires
                    if child.marker is None or child.marker.evaluate({"extra": extra})
                ]
    return sorted((packages[name] for name in {name for name, _ in reached}), key=_sort_key)


def header() -> str:
    """Return the comment at the top of the lock file."""
    python = ".".join(platform.python_version_tuple()[:2])
    left_out = "\n".join(f"#   {name}: {reason}" for name, reason in LEFT_OUT.items())
    return (
        f"# Written by requirements/lock.py (make lock) with Python {python} on "
        f"{platform.system()} {platform.machine()}.\n"
        "# Install it with: pip install --no-deps -r requirements/cpu.lock\n"
        f"# Left out on purpose:\n{left_out}\n"
    )


def main() -> None:
    """Write LOCK, and say what changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    upgrade = parser.parse_args().upgrade

    before = LOCK.read_text().splitlines() if LOCK.exists() else []
    kept = [] if upgrade else [str(pin) for pin in requirements(before)]
    print(f"Resolving {INPUT.name}; this takes a minute", flush=True)
    try:
        packages = resolve(kept)
    except subprocess.CalledProcessError:
        sys.exit(f"{INPUT.name} has no solution; see above, or try --upgrade")
    pins = [
        f"{package.name}=={package.version}"
        for package in needed(requirements(INPUT.read_text().splitlines()), packages)
    ]
    LOCK.write_text(header() + "\n".join(pins) + "\n")
    old = {str(pin) for pin in requirements(before)}
    for pin in sorted(old - set(pins)):
        print(f"- {pin}")
    for pin in sorted(set(pins) - old):
        print(f"+ {pin}")
    print(f"{LOCK.name}: {len(pins)} packages")


def _sort_key(package: Resolved) -> str:
    return canonicalize_name(package.name)


if __name__ == "__main__":
    main()
