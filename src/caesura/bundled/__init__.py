"""What comes with the package to try it: a small model trained for CML, and the tools it knows."""

from importlib.resources import files
from pathlib import Path

CML_MODEL = Path(str(files(__package__))) / "cml_model"
"""The folder of the bundled model, as `vllm serve` takes it."""
