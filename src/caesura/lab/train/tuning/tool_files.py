"""The user's tools, from a configuration of `caesura serve` or from JSON."""

import asyncio
import json
from pathlib import Path

from pydantic import ConfigDict

from caesura.cml.frames import JsonObject
from caesura.errors import ConfigurationError
from caesura.lab.train.wide.draw import possible_categories
from caesura.lab.train.wide.sources import OwnTools
from caesura.lab.train.wide.tools import definition_of, tool_of
from caesura.tools.configuration import load_configuration
from caesura.tools.settings import Settings
from caesura.tools.toolbox import open_toolbox


class _OnlyTools(Settings):
    """The tables of tools; those of sessions and the server mean nothing here."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


def read_tools(file: Path) -> tuple[JsonObject, ...]:
    """The definitions of all tools in a file.

    Args:
        file: the TOML file of `caesura serve --config`, whose functions are imported and whose MCP
            servers are asked; or JSON: a list of definitions as in an OpenAI request, or an object
            with such a list under "tools".

    Raises:
        ConfigurationError: it cannot be read, or tasks cannot be made up for a tool.
    """
    found = asyncio.run(_configured(file)) if file.suffix == ".toml" else _listed(file)
    tools = [tool_of(definition) for definition in found]
    if len({tool.name for tool in tools}) < len(tools):
        raise ConfigurationError(f"{file}: two tools have the same name")
    try:
        possible_categories(OwnTools(tools))
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None
    return tuple(definition_of(tool) for tool in tools)


async def _configured(file: Path) -> list[JsonObject]:
    configuration = load_configuration(file, form=_OnlyTools)
    async with open_toolbox(configuration, complete=True) as toolbox:
        return [
            {
                "name": name,
                "description": endpoint.definition.description,
                "parameters": endpoint.definition.schema.document,
                "expected_seconds": endpoint.settings.expected_seconds,
            }
            for name, endpoint in toolbox.endpoints.items()
        ]


def _listed(file: Path) -> list[JsonObject]:
    try:
        content = json.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigurationError(f"{file}: is not JSON: {error}") from None
    found = content.get("tools") if isinstance(content, dict) else content
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ConfigurationError(f"{file}: must be a list of tool definitions")
    return found
