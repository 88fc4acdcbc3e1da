from pathlib import Path

import pytest

from caesura.lab.train.tuning.base import Base
from support.models.tiny import tiny_base, write_tiny_model


@pytest.fixture(scope="session")
def tied_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tied"))


@pytest.fixture(scope="session")
def untied_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("untied"), tied=False)


@pytest.fixture(scope="session")
def tiny(tied_model: Path) -> Base:
    """Not to be trained: other tests use it."""
    return tiny_base(tied_model)
