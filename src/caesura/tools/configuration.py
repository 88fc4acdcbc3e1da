"""The configuration file of tools: read, checked, and every error with its line."""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from caesura.errors import ConfigurationError
from caesura.tools.environment import Environment
from caesura.tools.settings import Settings
from caesura.tools.toml_lines import KeyPath, key_lines, nearest_line

Form = TypeVar("Form", bound=Settings, covariant=True)

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_POSITION = re.compile(r"\(at (?:line (?P<line>\d+), column \d+|end of document)\)")
# What pydantic says of these does not say what to do.
_ADVICE = {
    "missing": "is missing; add it",
    "extra_forbidden": "is not a setting here; remove it, or check its spelling",
    "union_tag_not_found": 'has no type; add type = "python", "http", "model", "human" or '
    '"sequence"',
}


@dataclass(frozen=True, slots=True)
class Configuration(Generic[Form]):
    """A configuration file that was read and fits.

    Attributes:
        file: where it is.
        settings: what it says.
        lines: the line of each key.
        secrets: values that came from the environment; they must not be shown.
        credentials: those that are keys or the like, by their names; tools must not show them.
    """

    file: Path
    settings: Form
    lines: Mapping[KeyPath, int]
    secrets: frozenset[str]
    credentials: frozenset[str] = frozenset()

    def error(self, path: KeyPath, message: str) -> ConfigurationError:
        """An error about a key, with file and line; `message` says what to do."""
        return ConfigurationError(_located(self.file, dict(self.lines), path, message))


@overload
def load_configuration(
    file: Path, environment: Mapping[str, str] | None = None
) -> Configuration[Settings]: ...


@overload
def load_configuration(
    file: Path, environment: Mapping[str, str] | None = None, *, form: type[Form]
) -> Configuration[Form]: ...


def load_configuration(
    file: Path,
    environment: Mapping[str, str] | None = None,
    *,
    form: type[Settings] = Settings,
) -> Configuration[Settings]:
    """Read and check a configuration file.

    Args:
        file: a TOML file; tables that `form` does not have are refused.
        environment: where `${NAME}` is looked up; `os.environ` by default.
        form: what it may have, beside `tools` and `mcp`.

    Raises:
        ConfigurationError: it cannot be read or does not fit. Every line of the message names
            file, line and key, and says what to do.
    """
    try:
        text = file.read_text("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file}: is not UTF-8; save it as UTF-8") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(_syntax_error(file, text, str(error))) from None
    lines = key_lines(text)
    lookup = Environment(os.environ if environment is None else environment)
    try:
        settings = form.model_validate(data, context=lookup)
    except ValidationError as error:
        messages = [
            _located(file, lines, *_described(data, details))
            for details in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigurationError("\n".join(messages)) from None
    return Configuration(
        file, settings, lines, frozenset(lookup.secrets), frozenset(lookup.credentials)
    )


def _syntax_error(file: Path, text: str, message: str) -> str:
    position = _POSITION.search(message)
    line = (
        int(position["line"])
        if position and position["line"]
        else len(text.rstrip("\n").split("\n"))
    )
    return f"{file}:{line}: is not TOML: {_POSITION.sub('', message).strip()}"


def _located(file: Path, lines: dict[KeyPath, int], path: KeyPath, message: str) -> str:
    shown = "".join(f"[{key}]" if isinstance(key, int) else f".{_as_written(key)}" for key in path)
    return f"{file}:{nearest_line(lines, path)}: {shown.lstrip('.')}: {message}"


def _as_written(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _described(data: Mapping[str, Any], details: ErrorDetails) -> tuple[KeyPath, str]:
    path = _path_in_file(data, details["loc"])
    message = details["msg"].removeprefix("Value error, ")
    return path, _ADVICE.get(details["type"], message)


def _path_in_file(data: Mapping[str, Any], location: KeyPath) -> KeyPath:
    """A pydantic location without what pydantic adds to it: the type of a tool, `[key]`."""
    path: KeyPath = location[:-1] if location[-1:] == ("[key]",) else location
    if len(path) > 2 and path[0] == "tools" and path[2] == data["tools"][path[1]].get("type"):
        path = (*path[:2], *path[3:])
    return path
