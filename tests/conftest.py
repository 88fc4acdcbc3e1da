import pytest
from hypothesis import settings

from caesura.demo.model import demo_model_path
from small_model import MODEL

# No deadline: small machines stall. The blob reproduces a failing case.
settings.register_profile("caesura", deadline=None, print_blob=True)
settings.load_profile("caesura")


@pytest.fixture(scope="session")
def model_path() -> str:
    return str(demo_model_path(config=MODEL))
