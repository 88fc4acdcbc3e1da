"""Models that commands of the laboratory are given."""

from pathlib import Path

from caesura.errors import ConfigurationError


def require_model(name: str | None, *, as_folder: bool = False) -> None:
    """See that there is such a model; None stands for one that comes with the command.

    Args:
        name: a path, or a name on the hub.
        as_folder: a name on the hub is not enough.

    Raises:
        ConfigurationError: there is none, or it cannot be had; says what to do.
    """
    if name is not None:
        if as_folder and not Path(name).is_dir():
            raise ConfigurationError(f"there is no folder {name}: give that of a model")
        from caesura.engine.serving.model_files import require_model as require

        require(name)
