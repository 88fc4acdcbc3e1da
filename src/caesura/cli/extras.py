"""What only some commands need: packages, and models."""

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from caesura.errors import ConfigurationError


class Extra(StrEnum):
    """An extra of the distribution, as in `caesura[lab]`."""

    LAB = "lab"
    TRAIN = "train"


_LAB = ("matplotlib", "openai", "safetensors")
PACKAGES = {
    Extra.LAB: _LAB,
    Extra.TRAIN: (*_LAB, "accelerate", "datasets", "peft", "transformers", "trl"),
}
"""What each installs, by the names that are imported."""

_ENGINE = ("torch", "vllm")
_ENGINE_ADVICE = 'pip install "caesura[cpu]" or "caesura[gpu]"'


def require(extra: Extra) -> None:
    """See that a command has its packages before it begins.

    Raises:
        ConfigurationError: some are missing; says how to install them.
    """
    missing = [package for package in PACKAGES[extra] if not _is_installed(package)]
    if missing:
        raise ConfigurationError(_advice(", ".join(missing), f'pip install "caesura[{extra}]"'))


def advice_for(package: str) -> str | None:
    """How to install a package that is missing; None if it is in no extra."""
    if package in _ENGINE:
        return _advice(package, _ENGINE_ADVICE)
    for extra, packages in PACKAGES.items():
        if package in packages:
            return _advice(package, f'pip install "caesura[{extra}]"')
    return None


def _advice(packages: str, command: str) -> str:
    return f"this command needs {packages}: {command}"


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def require_model(name: str, *, as_folder: bool = False) -> str:
    """See that there is such a model; its path, if it was given by a short name.

    Args:
        name: a path, or a name on the hub.
        as_folder: a name on the hub is not enough.

    Raises:
        ConfigurationError: there is none, or it cannot be had; says what to do.
    """
    from caesura.engine.serving.model_files import require_model as require
    from caesura.model_cache import resolved_model

    name = resolved_model(name)
    if as_folder and not Path(name).is_dir():
        raise ConfigurationError(f"there is no folder {name}: give that of a model")
    return require(name)
