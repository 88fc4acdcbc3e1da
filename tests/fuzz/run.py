"""`make fuzz`: play what draws at random with ever other numbers, until the time is over.

A round plays every property and every random schedule, each with twice as many examples as in the
round before, and draws by a seed of its own. With atheris installed, a tenth of the time goes to
`with_atheris.py` first.
"""

import argparse
import importlib.util
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
WITH_ATHERIS = Path("tests", "fuzz", "with_atheris.py")
TESTS_FAILED, NO_TESTS = 1, 5  # how pytest ends
BETWEEN_ROUNDS = 1_000_000  # tests count on from a round's seed
ATHERIS_SHARE = 0.1
GRACE_SECONDS = 10.0  # for engines and servers to be stopped


@dataclass(frozen=True, slots=True)
class Draws:
    """What a round draws.

    Attributes:
        seed: decides all draws.
        times: how many times the usual number of examples.
    """

    seed: int
    times: int

    @property
    def environment(self) -> dict[str, str]:
        return {
            "CAESURA_FUZZ_SEED": str(self.seed),
            "CAESURA_FUZZ_TIMES": str(self.times),
            "PYTHONHASHSEED": str(self.seed % 2**32),
        }

    def command(self, test: str) -> str:
        """What plays a test with these draws, and looks for a smaller example if it fails."""
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        return " ".join([*settings, shlex.join([sys.executable, "-m", "pytest", test])])


@dataclass
class Campaign:
    """Rounds until the time is over.

    Attributes:
        seconds: how long.
        seed: of the first round.
        tests: paths for pytest.
        processes: how many play at the same time.
        out: folder for what is found.
        failures: commands that repeat what was found.
    """

    seconds: float
    seed: int
    tests: Sequence[str]
    processes: int
    out: Path
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.seconds
        self._failed: list[str] = []

    @property
    def _seconds_left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def run(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        if importlib.util.find_spec("atheris") is not None:
            self._mutate_streams()
        for number, draws in enumerate(self._rounds()):
            if not self._seconds_left:
                print("\nfuzz: the time is over")
                break
            print(
                f"\nfuzz: round {number + 1} with seed {draws.seed} and {draws.times} x the usual "
                f"examples, {self._seconds_left:.0f} s left",
                flush=True,
            )
            if not self._play(draws):
                break

    def _rounds(self) -> Iterator[Draws]:
        draws = Draws(self.seed, 1)
        while True:
            yield draws
            draws = Draws(draws.seed + BETWEEN_ROUNDS, 2 * draws.times)

    def _play(self, draws: Draws) -> bool:
        """Play a round; whether there is anything left to play."""
        found = self.out / "found.txt"
        found.write_text("")
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-m", "fuzz", "--no-summary"),
            *("-p", "fuzz.findings", "-p", "no:cacheprovider", *self.tests),
            *(f"--deselect={name}" for name in self._failed),
        ]
        if self.processes > 1:
            command += ["-n", str(self.processes), "--dist", "loadfile", "--no-loadscope-reorder"]
        environment = {**draws.environment, "CAESURA_FUZZ_FOUND": str(found.resolve())}
        try:
            code = run_for(self._seconds_left, command, environment)
        finally:
            new = list(dict.fromkeys(found.read_text().splitlines()))
            self._failed += new
            self.failures += map(draws.command, new)
        if code == NO_TESTS and self._failed:
            return False
        if code not in (None, 0, TESTS_FAILED):
            raise SystemExit(f"fuzz: pytest ended with status {code}")
        return True

    def _mutate_streams(self) -> None:
        """Let atheris look for bytes that break CML, led by what they cover."""
        print(f"fuzz: streams of CML by atheris with seed {self.seed}", flush=True)
        before = set(self.out.iterdir())
        command = [
            *(sys.executable, str(WITH_ATHERIS), f"-seed={self.seed}"),
            f"-max_total_time={max(1, round(ATHERIS_SHARE * self.seconds))}",
            f"-artifact_prefix={self.out}/",
        ]
        run_for(self._seconds_left, command, {})
        for file in sorted(set(self.out.iterdir()) - before):
            self.failures.append(
                shlex.join(["PYTHONPATH=tests", sys.executable, str(WITH_ATHERIS), str(file)])
            )


def run_for(seconds: float, command: Sequence[str], environment: Mapping[str, str]) -> int | None:
    """Run a command to its end; None if it is stopped because the time is over."""
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, **environment},
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session, and all that it has started."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tests", nargs="*", default=["tests"])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "fuzz")
    options = parser.parse_args()
    # A shell ignores it for what it starts in the background, and so would all that we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    campaign = Campaign(**vars(options))
    print(f"fuzz: {campaign.seconds:.0f} s, from seed {campaign.seed} on", flush=True)
    with suppress(KeyboardInterrupt):
        campaign.run()
    print(f"\nfuzz: from seed {campaign.seed} on, {len(campaign.failures)} failures")
    if campaign.failures:
        print("\n".join(["fuzz: again, and smaller:", *campaign.failures]))
        print("fuzz: CONTRIBUTING.md says how each becomes an example that is always played")
    return bool(campaign.failures)


if __name__ == "__main__":
    sys.exit(main())
