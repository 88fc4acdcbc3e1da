"""Tools that tasks call: a JSON schema, and how users ask for what they give."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from caesura.cml.frames import JsonObject, JsonValue
from caesura.errors import ConfigurationError

_VERBS = (
    "get", "fetch", "find", "look up", "lookup", "read", "query", "check", "list", "search",
    "return", "returns", "retrieve", "compute", "calculate", "show", "load",
)  # fmt: skip
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class SchemaTool:
    """A tool.

    Attributes:
        name: what calls name.
        description: what it does.
        parameters: JSON schema of its arguments, an object.
        topic: what it gives, as a user names it: "the order status".
        expected_seconds: how long a call takes; None if nobody knows.
        returns: JSON schema of its result; None for any value that the task needs.
    """

    name: str
    description: str
    parameters: JsonObject
    topic: str
    expected_seconds: float | None = None
    returns: JsonObject | None = None

    @property
    def properties(self) -> dict[str, JsonObject]:
        """The schema of each argument."""
        properties = self.parameters.get("properties", {})
        assert isinstance(properties, dict)
        return {name: part for name, part in properties.items() if isinstance(part, dict)}

    @property
    def required(self) -> tuple[str, ...]:
        """The arguments that every call gives."""
        required = self.parameters.get("required", [])
        assert isinstance(required, list)
        return tuple(str(name) for name in required)


def words_of(name: str) -> str:
    """A name as a user says it: "orderId" and "order_id" are "order id"."""
    return " ".join(word.lower() for word in _WORD.findall(name)) or name


def topic_of(name: str) -> str:
    """What a tool of this name gives: "the order status" for `get_order_status`."""
    words = words_of(name)
    for verb in _VERBS:
        if words.startswith(verb + " "):
            return f"the {words.removeprefix(verb + ' ')}"
    return f"the result of {words}" if words in _VERBS else f"the {words}"


def tool_of(definition: Mapping[str, JsonValue]) -> SchemaTool:
    """A tool from its definition, as in an OpenAI request, alone or under "function".

    Beside name, description and parameters it may have `expected_seconds`, `topic` (how users name
    what it gives) and `returns` (a JSON schema of the result).

    Raises:
        ConfigurationError: it is no definition of a tool.
    """
    inner = definition.get("function", definition)
    if not isinstance(inner, dict):
        raise ConfigurationError('"function" of a tool must be an object with name and parameters')
    name = inner.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is not the name of a tool: use letters, digits, _ and -"
        )
    parameters = inner.get("parameters")
    if parameters is None:
        parameters = {"type": "object", "properties": {}}
    if not isinstance(parameters, dict) or not isinstance(parameters.get("properties", {}), dict):
        raise ConfigurationError(f"the parameters of {name} must be a JSON schema of an object")
    seconds = inner.get("expected_seconds")
    if seconds is not None and (not isinstance(seconds, int | float) or seconds <= 0):
        raise ConfigurationError(f"expected_seconds of {name} must be a positive number")
    returns = inner.get("returns")
    if returns is not None and not isinstance(returns, dict):
        raise ConfigurationError(f"returns of {name} must be a JSON schema")
    return SchemaTool(
        name=name,
        description=str(inner.get("description") or f"Gives {topic_of(name)}."),
        parameters=parameters,
        topic=str(inner.get("topic") or topic_of(name)),
        expected_seconds=None if seconds is None else float(seconds),
        returns=returns,
    )


def definition_of(tool: SchemaTool) -> JsonObject:
    """What `tool_of` reads."""
    definition: JsonObject = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "topic": tool.topic,
    }
    if tool.expected_seconds is not None:
        definition["expected_seconds"] = tool.expected_seconds
    if tool.returns is not None:
        definition["returns"] = tool.returns
    return definition
