"""What all tests share, how they are dealt out to two processes, and what the end of a run says."""

import inspect
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import is_hypothesis_test
from xdist.scheduler import LoadFileScheduling

import support.environment  # noqa: F401  (sets the number of threads)
from caesura.lab.models.noise_model import demo_model_path
from support import draws, forks
from support.databases import places
from support.databases.server import HOW, PostgresServer, postgres_server, programs
from support.models.small import MODEL

if TYPE_CHECKING:
    from support.servers.process import RestartableServer

TESTS = Path(__file__).parent

draws.load_profile()

# What is slow to start, and shared by all files that name it.
SHARED = ("engine_loop", "example_server", "server_with_keys", "--processes")


class Rooms(LoadFileScheduling):
    """As `--dist loadfile`, but all files that share something go to the same process."""

    def _split_scope(self, nodeid: str) -> str:
        return _room(super()._split_scope(nodeid))


@cache
def _room(file: str) -> str:
    text = (TESTS.parent / file).read_text()
    return next((name for name in SHARED if name in text), file)


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


@pytest.fixture(scope="session", autouse=True)
def importing(request: pytest.FixtureRequest) -> None:
    """Engines come soon: what they begin as imports vLLM while other tests run."""
    if any(item.get_closest_marker("engine") for item in request.session.items):
        forks.start_importing()


@pytest.fixture(autouse=True)
def restored_environment() -> Iterator[None]:
    """What a test sets in the environment is gone after it."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A private server of PostgreSQL."""
    if programs() is None:
        pytest.skip(HOW)
    with postgres_server() as server:
        yield server


@pytest.fixture(autouse=True)
def each_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The kind of database that the stores of the test are on: each in turn where a test names
    this, or its module says `ON_EACH_DATABASE`."""
    kind = getattr(request, "param", "sqlite")
    if kind == "postgres":
        places.are_at(request.getfixturevalue("postgres").place)
    yield kind
    places.are_at(Path)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_named = "each_database" in inspect.signature(metafunc.function).parameters
    if is_named or getattr(metafunc.module, "ON_EACH_DATABASE", places.EVERYWHERE):
        metafunc.parametrize("each_database", places.KINDS, indirect=True)


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
