"""Which call can take what another gives."""

from collections.abc import Iterable, Sequence

import jsonschema_rs

from caesura.cml.frames import JsonObject, JsonValue
from caesura.lab.train.wide.tasks import GraphCall
from caesura.lab.train.wide.tools import SchemaTool


def repeat_each_other(calls: Sequence[GraphCall]) -> bool:
    """Whether two calls are the same."""
    return any(
        (call.tool, call.arguments) == (other.tool, other.arguments)
        for index, call in enumerate(calls)
        for other in calls[:index]
    )


def are_valid(calls: Sequence[GraphCall], tools: Iterable[SchemaTool]) -> bool:
    """Whether all arguments fit; a value that two calls take may not fit the second."""
    schemas = {tool.name: tool.parameters for tool in tools}
    return all(
        jsonschema_rs.Draft202012Validator(schemas[call.tool]).is_valid(call.arguments)
        for call in calls
    )


def has_child(calls: Sequence[GraphCall], parent: int) -> bool:
    """Whether a call takes the result of this one."""
    return any(parent in call.parents for call in calls)


def offered(
    calls: Sequence[GraphCall], parent: int, tools: Iterable[SchemaTool]
) -> JsonObject | None:
    """Schema of what a call gives; None for any value. What one child has is no longer any."""
    if has_child(calls, parent):
        return _schema_of(calls[parent].result)
    return next(tool.returns for tool in tools if tool.name == calls[parent].tool)


def _schema_of(value: JsonValue) -> JsonObject:
    match value:
        case dict():
            parts: JsonObject = {name: _schema_of(part) for name, part in value.items()}
            return {"type": "object", "properties": parts, "required": list(value)}
        case str():
            return {"type": "string"}
        case int() if not isinstance(value, bool):
            return {"type": "integer"}
        case _:
            return {"type": "number"}


def assignment(
    tool: SchemaTool, results: Sequence[JsonObject | None]
) -> list[tuple[str, str | None]] | None:
    """For each result an argument of the tool that takes it, or a member of it."""
    free = list(tool.properties)
    found: list[tuple[str, str | None]] = []
    for result in results:
        taken = next(
            (
                (name, member)
                for name in free
                for member, schema in _offers(result)
                if _takes(tool.properties[name], schema)
            ),
            None,
        )
        if taken is None:
            return None
        free.remove(taken[0])
        found.append(taken)
    return found


def _offers(result: JsonObject | None) -> list[tuple[str | None, JsonObject | None]]:
    """A result and its members, with the schema of each; None for any value."""
    if result is None or result.get("type") != "object":
        return [(None, result)]
    properties = result.get("properties", {})
    required = result.get("required", [])
    assert isinstance(properties, dict)
    assert isinstance(required, list)
    return [
        (name, part)
        for name, part in properties.items()
        if isinstance(part, dict) and name in required
    ]


def _takes(parameter: JsonObject, offered: JsonObject | None) -> bool:
    """Whether an argument may be any such value: plain texts and whole numbers are."""
    kind = parameter.get("type")
    if kind not in ("string", "integer") or "enum" in parameter or "const" in parameter:
        return False
    if offered is None:
        return True
    return (kind, parameter.get("format")) == (offered.get("type"), offered.get("format")) and (
        "enum" not in offered
    )


def member_of(value: JsonValue, name: str) -> JsonValue:
    """A member of a result."""
    assert isinstance(value, dict)
    return value[name]
