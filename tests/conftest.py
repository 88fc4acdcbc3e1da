"""What all tests share, and how they are dealt out to two processes."""

import pytest
from hypothesis import settings

from caesura.demo.model import demo_model_path
from small_model import MODEL

# No deadline: small machines stall. The blob reproduces a failing case.
settings.register_profile("caesura", deadline=None, print_blob=True)
settings.load_profile("caesura")

SHARED_ENGINES = ("control", "chaotic", "forced")
"""Fixtures that start an engine once for several files."""


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares engines, else a file; what takes longest is dealt out first."""
    groups = {item: _group(item) for item in items}
    long = {groups[item] for item in items if item.get_closest_marker("engine") is not None}
    items.sort(key=lambda item: groups[item] not in long)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item]))


def _group(item: pytest.Item) -> str:
    shares = not set(SHARED_ENGINES).isdisjoint(getattr(item, "fixturenames", ()))
    return "shared engines" if shares else item.path.as_posix()


@pytest.fixture(scope="session")
def model_path() -> str:
    return str(demo_model_path(config=MODEL))
