"""The configuration of `caesura serve`, from its file or without one."""

from pathlib import Path

from caesura.server.settings import ServerSettings
from caesura.tools.configuration import Configuration, load_configuration


def server_configuration(file: Path | None) -> Configuration[ServerSettings]:
    """What the file says; without a file there are no tools, and all else is as by default.

    Raises:
        ConfigurationError: the file cannot be read or does not fit; names every line.
    """
    if file is not None:
        return load_configuration(file, form=ServerSettings)
    return Configuration(Path.cwd() / "caesura.toml", ServerSettings(), {}, frozenset())


def database_path(configuration: Configuration[ServerSettings]) -> Path:
    """Where sessions are kept. A relative path begins at the configuration file; without one,
    at the working directory."""
    return configuration.file.resolve().parent / configuration.settings.sessions.database
