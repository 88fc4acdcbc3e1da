"""Models that are built on first use and kept in the user's cache."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from caesura.errors import CaesuraError
from caesura.model_cache import models_folder

_FILES = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)


class DemoModelError(CaesuraError):
    """A model could not be written; the message says where and what to do."""


def cached_model(
    name: str,
    build: Callable[[Path], None],
    progress: Callable[[str], None] | None = None,
    cache: Path | None = None,
) -> Path:
    """Return the folder of the model of this name, and build it there if it is not there yet.

    Safe to call from several processes at once: each builds in a folder of its own, and the first
    to finish moves it into place.

    Args:
        name: of the folder; it must change when the files do.
        build: writes the files into a folder that exists; what it puts beside that is removed.
        progress: called with a line for people when there is something to build.
        cache: folder for models, instead of `caesura/models` in the user's cache folder.

    Raises:
        DemoModelError: the cache folder cannot be written.
    """
    models = cache or models_folder()
    folder = models / name
    if is_complete(folder):
        return folder
    if progress:
        progress(f"Building a model in {folder}")
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=models) as scratch:
            built = Path(scratch) / folder.name
            built.mkdir()
            build(built)
            _move_into_place(built, folder)
    except OSError as error:
        raise DemoModelError(
            f"cannot write the model to {folder}: {error.strerror or error}; "
            "set XDG_CACHE_HOME to a folder that you can write to"
        ) from error
    return folder


def is_complete(folder: Path) -> bool:
    """Whether a folder has all files of a model."""
    return all((folder / name).is_file() for name in _FILES)


def _move_into_place(built: Path, folder: Path) -> None:
    """Rename `built` to `folder`; a complete one that is there already wins."""
    try:
        built.rename(folder)
    except OSError:
        if is_complete(folder):
            return
        # Somebody removed files from the cache: the remains go with the scratch folder.
        with suppress(FileNotFoundError):
            folder.rename(built.with_name("remains"))
        built.rename(folder)
