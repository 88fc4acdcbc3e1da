"""What calls may say, by the tools' definitions."""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from caesura.cml import KnownTools
from caesura.tools.failure import InvalidArguments
from caesura.tools.schema import ArgumentSchema


def known_tools(definitions: Sequence[Mapping[str, JsonValue]]) -> KnownTools:
    """Check calls by the schemas of these tools, given in OpenAI's format.

    Raises:
        ValueError: a definition has no name, or its parameters are no JSON schema of an object.
    """
    schemas = dict(_schema(definition) for definition in definitions)

    def objection(name: str, arguments: Mapping[str, JsonValue]) -> str | None:
        try:
            schemas[name].check(arguments)
        except InvalidArguments as error:
            return f"The arguments do not fit: {error}."
        return None

    return KnownTools(frozenset(schemas), objection)


def _schema(definition: Mapping[str, JsonValue]) -> tuple[str, ArgumentSchema]:
    function = definition.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str):
        raise ValueError('a tool is defined as {"type": "function", "function": {"name": ...}}')
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise ValueError(f"the parameters of tool {name!r} are no JSON schema")
    return name, ArgumentSchema(parameters, lenient=True)  # its tool checks them, too
