"""What all tests share, how they are dealt out to two processes, and what the end of a run says."""

import inspect
import random
from collections import Counter

import pytest
from hypothesis import is_hypothesis_test

from caesura.lab.models.noise_model import demo_model_path
from small_model import MODEL
from support import draws

draws.load_profile()


@pytest.hookimpl(tryfirst=True)  # before Hypothesis reads it
def pytest_configure(config: pytest.Config) -> None:
    if draws.SEED is not None:
        config.option.hypothesis_seed = draws.SEED


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and _draws_examples(item):
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


def _draws_examples(test: pytest.Function) -> bool:
    """Whether Hypothesis plays the test, or a function inside it."""
    return is_hypothesis_test(test.obj) or "@given(" in inspect.getsource(test.obj)


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
