"""Makes decisions wrong, one at a time, and says which of them no quick test notices.

Run by `make mutants`; it takes some seconds for each that is noticed, half a minute for others.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parents[1]))

from mutants.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
QUICK_TESTS = (
    "tests/policy",
    "tests/engine/pauses",
    "tests/engine/copies",
    "tests/engine/virtual/test_order_of_service.py",
    "tests/engine/virtual/test_infercept.py",
    "tests/engine/virtual/test_returns.py",
    "tests/engine/virtual/test_forward_progress.py",
    "tests/engine/virtual/test_vllm_behaviour.py",
)


def noticed(mutation: Mutation, source: Path) -> str | None:
    """The quick test that fails with a mutation; None if none does."""
    file = source / "caesura" / mutation.file
    right = file.read_text()
    assert right.count(mutation.before) == 1, f"{mutation.name}: the line is not there once"
    file.write_text(right.replace(mutation.before, mutation.after))
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "--no-header", *QUICK_TESTS],
            cwd=ROOT,
            env=dict(os.environ) | {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        file.write_text(right)
    failures = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if run.returncode and not failures:
        raise SystemExit(f"{mutation.name}: the tests did not run:\n{run.stdout}{run.stderr}")
    return failures[0].split(" - ")[0].removeprefix("FAILED ") if failures else None


def survivors(mutations: tuple[Mutation, ...], console: Console) -> Iterator[Mutation]:
    """The mutations that nothing notices."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        for mutation in track(mutations, "Mutations", console=console):
            test = noticed(mutation, source)
            console.print(f"{mutation.name}: {test or '[bold red]survives[/]'}", soft_wrap=True)
            if test is None:
                yield mutation


def main() -> None:
    """Run the mutations whose name or file has a word, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "words", nargs="*", help="only mutations with one of these in their name or file"
    )
    words = parser.parse_args().words
    chosen = tuple(
        m for m in MUTATIONS if not words or any(word in m.name or word in m.file for word in words)
    )
    console = Console()
    surviving = list(survivors(chosen, console))
    console.print(f"{len(chosen) - len(surviving)} of {len(chosen)} mutations are noticed.")
    sys.exit(bool(surviving))


if __name__ == "__main__":
    main()
