"""What all tests share, and how they are dealt out to two processes."""

import os

import pytest
from hypothesis import settings

from caesura.lab.models.noise_model import demo_model_path
from small_model import MODEL

# No deadline: small machines stall. The blob reproduces a failing case.
EXAMPLES = int(os.environ.get("CAESURA_EXAMPLES", "50"))
settings.register_profile("caesura", deadline=None, print_blob=True, max_examples=EXAMPLES)
settings.load_profile("caesura")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with engines come first: they take longest, and a process takes a file as a whole."""
    long = {item.path for item in items if item.get_closest_marker("engine") is not None}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def model_path() -> str:
    return str(demo_model_path(config=MODEL))
