"""Make the virtual environment `.venv` from cpu.lock, and show how far it is.

Run it with `make install`. It needs nothing but Python itself. The package is installed in
place, so that changes to `src/` need no new installation.
"""

import subprocess
import sys
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "cpu.lock"
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
OLDEST, NEWEST = (3, 11), (3, 13)


def installed_packages() -> int:
    """Return how many packages the environment holds besides pip."""
    found = ENVIRONMENT.glob("lib/python*/site-packages/*.dist-info")
    return sum(1 for package in found if not package.name.startswith("pip-"))


@contextmanager
def progress(expected: int) -> Iterator[None]:
    """Show seconds and packages while the body runs: one line redrawn, or one now and then."""
    done = threading.Event()
    start = time.monotonic()
    redraw = sys.stdout.isatty()

    def show() -> None:
        while not done.wait(0.5 if redraw else 15):
            line = f"  {installed_packages()} of {expected} packages in place"
            line += f", {time.monotonic() - start:.0f} s"
            print(f"\r{line}" if redraw else line, end="" if redraw else "\n", flush=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        if redraw:
            print("\r\033[K", end="")


def pip(*arguments: str) -> None:
    """Run the environment's pip.

    Raises:
        subprocess.CalledProcessError: pip failed, and has said why on stderr.
    """
    quiet = ("-qq", "--disable-pip-version-check", "--no-input")
    subprocess.run([str(PYTHON), "-m", "pip", "install", *quiet, *arguments], check=True)


def main() -> None:
    """Create or update the environment."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        found = ".".join(map(str, sys.version_info[:2]))
        sys.exit(
            f"Caesura needs Python 3.{OLDEST[1]} to 3.{NEWEST[1]}, and this is {found}: "
            "name one with `make install PYTHON=python3.11`"
        )
    start = time.monotonic()
    if not PYTHON.with_name("pip").exists():
        print(f"Creating {ENVIRONMENT.name}", flush=True)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
    pins = [line for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    print(f"Installing {len(pins)} packages: first all downloads, then all files", flush=True)
    try:
        with progress(len(pins)):
            pip("--no-deps", "--requirement", str(LOCK))
            pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    except subprocess.CalledProcessError as error:
        sys.exit(f"pip failed with exit status {error.returncode}; its own words are above")
    print(f"Installed in {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
