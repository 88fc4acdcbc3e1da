"""The tests themselves: the same for everybody, without waiting, and fuzzed on demand."""

import ast
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.run import run_for
from support.waiting import poll

TESTS = Path(__file__).parent
WAITS = re.compile(
    r"(asyncio|time|anyio)\.sleep|time\.(time|monotonic|perf_counter|process_time|thread_time)"
)
DRAWS = re.compile(r"(random|np\.random|numpy\.random)\.\w+")
SEEDED = re.compile(r"random\.Random|(np|numpy)\.random\.(default_rng|Generator)")
# Files that may look at the clock, and why.
MAY_WAIT = {
    "support/waiting.py": "polls other processes, and lets clients of random schedules think",
    "fuzz/run.py": "stops when its time is over",
    "support/dashboard/scene.py": "plays a scene for pictures, which is no test",
    "support/servers/chat.py": "notes when requests came, by the clock of the client",
    "lab/sim/test_virtual_time.py": "sleeps in virtual time, which takes none",
    "lab/demo/recordings.py": "pretends that a recording began a second ago",
    "session/crash_run.py": "kills a process at a random moment",
    "session/replica_run.py": "kills and stops processes at random moments",
    "server/sessions/retrying_run.py": "its server lives until other processes are done",
}


def calls(source: str) -> Iterator[ast.Call]:
    """All calls of functions of modules, also in programs that a test writes."""
    tree = ast.parse(source)
    modules = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).partition(".")[0] in modules:
            yield node
        elif isinstance(node, ast.Constant) and "sleep(" in str(node.value):
            try:
                yield from calls(node.value)
            except SyntaxError:
                continue


def waits(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    yields = name.endswith("sleep") and [ast.unparse(value) for value in call.args] == ["0"]
    return WAITS.fullmatch(name) is not None and not yields


def draws_anew(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    is_seeded = SEEDED.fullmatch(name) and call.args
    return DRAWS.fullmatch(name) is not None and not is_seeded


@cache
def sources() -> dict[str, list[ast.Call]]:
    return {
        str(file.relative_to(TESTS)): list(calls(file.read_text()))
        for file in sorted(TESTS.rglob("*.py"))
    }


def test_no_test_waits_for_a_time_or_measures_one() -> None:
    found = {file for file, made in sources().items() if any(map(waits, made))}
    assert found == MAY_WAIT.keys()


def test_what_a_test_draws_has_a_seed() -> None:
    found = {
        file: [ast.unparse(call) for call in made if draws_anew(call)]
        for file, made in sources().items()
    }
    only_here = {"fuzz/run.py": ["random.SystemRandom()"]}  # what `make fuzz` begins with
    assert {file: made for file, made in found.items() if made} == only_here


def drawn() -> list[int]:
    seen: list[int] = []

    @given(st.integers())
    def draw(number: int) -> None:
        seen.append(number)

    draw()
    return seen


def test_draws_do_not_depend_on_what_else_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = drawn()
    assert len(set(before)) > 10
    constants = ", ".join(str(10**9 + number) for number in range(1000))
    (tmp_path / "new_constants.py").write_text(f"CONSTANTS = [{constants}]\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("new_constants")
    assert drawn() == before


WRONG = """\
from functools import cache
from pathlib import Path
from hypothesis import given, strategies as st

@given(st.integers())
def test_all_numbers_are_small(number):
    assert number < 1000

@given(st.integers())
def test_it_has_no_end(number):
    Path(__file__).with_name("started").touch()
    while True:
        pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder for other tests, which are run as these are."""
    settings = (TESTS.parent / "pyproject.toml").read_text()
    settings = settings.replace('pythonpath = ["tests"]', f'pythonpath = ["{TESTS}"]')
    (tmp_path / "pyproject.toml").write_text(settings)
    shutil.copy(TESTS / "conftest.py", tmp_path)
    return tmp_path


def test_fuzzing_says_what_it_found_and_how_to_have_it_again(project: Path) -> None:
    file = project / "test_wrong.py"
    file.write_text(WRONG)
    command = [sys.executable, str(TESTS / "fuzz" / "run.py"), str(file)]
    options = ["--processes", "1", "--seed", "7", "--out", str(project / "out")]
    fuzzing = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    assert poll((project / "started").exists)
    fuzzing.send_signal(signal.SIGINT)  # as if the time were over
    printed, _ = fuzzing.communicate()
    assert fuzzing.returncode == 1
    assert "from seed 7 on, 1 failures" in printed
    (again,) = [line for line in printed.splitlines() if line.startswith("CAESURA_FUZZ_SEED=7 ")]
    assert again.endswith("test_wrong.py::test_all_numbers_are_small")
    done = subprocess.run(
        again, shell=True, cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "assert 1000 < 1000" in done.stdout, "the smallest number"


def test_a_test_that_hears_nothing_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.run.GRACE_SECONDS", 0.1)
    assert run_for(0.0, [sys.executable, "-c", "while True: pass"], {}) is None


def test_the_end_of_a_run_says_what_was_skipped_and_how_to_have_it(project: Path) -> None:
    skip = '@pytest.mark.skipif(True, reason="the page needs Chromium: install it")\n'
    tests = "".join(f"{skip}def test_{number}(): ...\n" for number in range(3))
    (project / "test_page.py").write_text(f"import pytest\n{tests}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "1", str(project)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "skipped: 3 tests: the page needs Chromium: install it\n" in done.stdout
