"""A small Hugging Face model of its own architecture and tokenizer, for tests of fine-tuning."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from caesura.lab.train.tuning.base import Base, load_base

EXAMPLE = Path(__file__).parents[3] / "examples" / "fine_tuning"


def example_module() -> ModuleType:
    """The script that writes the model."""
    spec = importlib.util.spec_from_file_location("tiny_model", EXAMPLE / "tiny_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_model"] = module
    spec.loader.exec_module(module)
    return module


def write_tiny_model(folder: Path, *, tied: bool = True) -> Path:
    """Write one with 64 dimensions and 2 layers."""
    example_module().write_model(folder, vocabulary=600, hidden_size=64, layers=2, tied=tied)
    return folder


def tiny_base(folder: Path) -> Base:
    """A new copy of a model that was written, ready to be trained."""
    return load_base(str(folder), whole=True)
