"""JSON schemas as they come, in the form in which they are checked."""

from collections.abc import Mapping

from pydantic import JsonValue

Node = dict[str, JsonValue]

NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
"""Keys whose value has schemas by name."""

_VALUES = frozenset({"const", "default", "enum", "examples", "example"})
_DEEPEST = 100
_OLD_DRAFTS = ("draft-03", "draft-04")
_KNOWN_DRAFTS = ("json-schema.org/draft", "json-schema.org/schema")
# Within a schema they would change what references mean; nothing outside of it can be referred to.
_BASES = frozenset({"$id", "id", "$schema", "$anchor", "$dynamicAnchor", "$recursiveAnchor"})


def plain_schema(document: Mapping[str, JsonValue]) -> Node:
    """A copy in which references are paths and nothing is in OpenAPI 3.0's spelling.

    Raises:
        ValueError: a reference is no path within the schema, or it is nested too deeply.
    """
    draft = str(document.get("$schema", ""))
    is_old = any(old in draft for old in _OLD_DRAFTS)
    plain = _plain(dict(document), is_old, 0)
    if any(known in draft for known in _KNOWN_DRAFTS):
        plain["$schema"] = draft
    return plain


def _plain(schema: Node, is_old: bool, depth: int) -> Node:
    if depth > _DEEPEST:
        raise ValueError(f"the schema is nested more than {_DEEPEST} deep")
    node: Node = {}
    for key, value in schema.items():
        if key in _BASES and isinstance(value, str | bool):
            continue
        if key in NAMED and isinstance(value, dict):
            node[key] = {name: _item(item, is_old, depth + 1) for name, item in value.items()}
        else:
            node[key] = value if key in _VALUES else _item(value, is_old, depth)
    for key in ("$ref", "$dynamicRef", "$recursiveRef"):
        if key in node and not (key == "$ref" and _is_path(node[key])):
            raise ValueError(
                f"not a JSON schema: {key} {node[key]!r} is no path within it, such as #/$defs/NAME"
            )
    if not is_old:
        _modernize(node)
    return node


def _item(value: JsonValue, is_old: bool, depth: int) -> JsonValue:
    if isinstance(value, dict):
        return _plain(value, is_old, depth + 1)
    if isinstance(value, list):
        return [_item(item, is_old, depth + 1) for item in value]
    return value


def _is_path(reference: JsonValue) -> bool:
    if not isinstance(reference, str):
        return False
    first, *steps = reference.split("/")
    return first == "#" and _VALUES.isdisjoint(steps)


def _modernize(node: Node) -> None:
    """What OpenAPI 3.0 and early drafts write otherwise."""
    for exclusive, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(node.get(exclusive), bool) and node.pop(exclusive) and limit in node:
            node[exclusive] = node.pop(limit)
    if node.pop("nullable", None) is True:
        kinds, values = node.get("type"), node.get("enum")
        if isinstance(kinds, str):
            node["type"] = [kinds, "null"]
        elif isinstance(kinds, list) and "null" not in kinds:
            node["type"] = [*kinds, "null"]
        if isinstance(values, list) and None not in values:
            node["enum"] = [*values, None]
