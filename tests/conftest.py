"""What all tests share, how they are dealt out to two processes, and what the end of a run says."""

import inspect
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import is_hypothesis_test
from xdist.scheduler import LoadFileScheduling

from caesura.lab.models.noise_model import demo_model_path
from small_model import MODEL
from support import draws

if TYPE_CHECKING:
    from servers import RestartableServer

draws.load_profile()
# Processes share the cores; and sums do not depend on how many there are. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Files that share what is slow to start. One process plays them all, one after the other.
TOGETHER = {
    "engines in this process": [
        "engine/model/test_call_grammar.py",
        "engine/model/test_calling.py",
        "engine/test_forced_tokens.py",
        "engine/model/test_frames.py",
        "engine/test_planned_calls.py",
        "engine/model/test_prompted_calling.py",
        "engine/test_sessions.py",
        "engine/model/test_speculated_frames.py",
        "engine/test_token_exactness.py",
    ],
    "one server": ["engine/serving/test_serve.py", "test_examples.py"],
    "one server with keys": [
        "server/clients/test_clients.py",
        "server/sessions/test_serve_sessions.py",
    ],
    "simulations": ["engine/tracing/test_trace.py", "lab/bench/test_simulate.py"],
}
ROOMS = {f"tests/{file}": room for room, files in TOGETHER.items() for file in files}


class Rooms(LoadFileScheduling):
    """As `--dist loadfile`, but files that belong together go to the same process."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return ROOMS.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Rooms | None:
    return Rooms(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(tryfirst=True)  # before Hypothesis reads it
def pytest_configure(config: pytest.Config) -> None:
    if draws.SEED is not None:
        config.option.hypothesis_seed = draws.SEED


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and _draws_examples(item.function):
            item.add_marker("fuzz")
    if draws.SEED is not None:
        # Whatever the time for fuzzing, all files get their share of it.
        files = sorted({item.path for item in items})
        random.Random(draws.SEED).shuffle(files)
        places = {path: place for place, path in enumerate(files)}
        items.sort(key=lambda item: places[item.path])
        return
    # Files with engines come first: they take longest, and a process takes a file as a whole.
    long = {item.path for item in items if item.get_closest_marker("engine") is not None}
    items.sort(key=lambda item: item.path not in long)


@cache
def _draws_examples(function: Callable[..., object]) -> bool:
    """Whether Hypothesis plays it, or a function inside it."""
    return is_hypothesis_test(function) or "@given(" in inspect.getsource(function)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was skipped and how to have it run."""
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports)
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(
            f"skipped: {count} {'test' if count == 1 else 'tests'}: {reason}"
        )


@pytest.fixture(scope="session")
def model_path() -> str:
    return str(demo_model_path(config=MODEL))


@pytest.fixture(scope="session")
def example_server(
    model_path: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["RestartableServer"]:
    """Serves whoever comes, with the tools of the examples, in a copy of their folder."""
    from support.servers.examples import serve_examples

    server = serve_examples(model_path, tmp_path_factory.mktemp("examples"))
    yield server
    server.stop()
