"""Models in the user's cache, and the short names of those that `caesura models get` puts there."""

import os
from pathlib import Path

from caesura.errors import ConfigurationError

PACKAGED = {"smollm2": "smollm2-135m-instruct"}
"""Folders in the cache, by the names that commands take in place of a path."""


def models_folder() -> Path:
    """Where models are kept: `caesura/models` in the user's cache folder."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification asks to ignore a path that is not absolute.
    root = Path(configured) if os.path.isabs(configured) else Path.home() / ".cache"
    return root / "caesura" / "models"


def packaged_folder(name: str) -> Path | None:
    """The folder of a model with a short name, whether it is there or not; None for other names.

    A folder of that name in the working directory comes first.
    """
    if name not in PACKAGED or Path(name).exists():
        return None
    return models_folder() / PACKAGED[name]


def resolved_model(name: str) -> str:
    """A path in place of a short name; any other name as it is.

    Raises:
        ConfigurationError: the model is not in the cache; says what to do.
    """
    folder = packaged_folder(name)
    if folder is None:
        return name
    if not (folder / "config.json").is_file():
        raise ConfigurationError(
            f"{name} is not in the cache yet: run `caesura models get {name}` once"
        )
    return str(folder)
