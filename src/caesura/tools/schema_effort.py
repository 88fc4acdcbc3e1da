"""How much work it is to check a value by a JSON schema, counted before it is done.

Alternatives and references multiply: a schema of some lines can ask for more steps than there is
time. The library cannot be interrupted, so the steps are counted first, up to a limit.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

_SAME_VALUE = ("not", "if", "then", "else")
_ALTERNATIVES = ("allOf", "anyOf", "oneOf")
_OTHERS = ("additionalProperties", "unevaluatedProperties")
_ITEMS = ("items", "additionalItems", "unevaluatedItems", "contains")
_NESTING = frozenset(
    {
        *_SAME_VALUE,
        *_ALTERNATIVES,
        *_OTHERS,
        *_ITEMS,
        "$ref",
        "dependentSchemas",
        "pattern",
        "patternProperties",
        "prefixItems",
        "properties",
        "propertyNames",
    }
)
_DEEPEST = 1000  # values are not nested that deep: it is references that go round
_LEAVES_OF_A_STEP = 64  # parts without parts of their own are checked quickly

# Where these look ahead from each place of a text, its length counts twice.
_LOOKS_AROUND = re.compile(r"\(\?<?[=!]|\\[1-9k]")
_LOOKS_OF_A_STEP = 32

Visit = tuple[Any, Any]


class TooMuchEffort(Exception):
    """It is more work than the limit."""


def effort(schema: Mapping[str, Any], value: Any, limit: int) -> int:
    """Steps that checking takes at most: visits of a part of the value by a part of the schema.

    Args:
        schema: a schema whose references are paths within it.
        value: what is to be checked.
        limit: of steps.

    Raises:
        TooMuchEffort: there are more than the limit.
        ValueError: a reference leads nowhere.
    """
    steps = 0
    to_visit: list[Iterator[Visit]] = [iter([(schema, value)])]
    while to_visit:
        visit = next(to_visit[-1], None)
        if visit is None:
            to_visit.pop()
            continue
        part, of = visit
        steps += 1 + (len(of) // _LEAVES_OF_A_STEP if isinstance(of, dict | list) else 0)
        if isinstance(of, str) and isinstance(part, Mapping):
            steps += _looks(part.get("pattern"), of)
        if steps > limit or len(to_visit) > _DEEPEST:
            raise TooMuchEffort
        if isinstance(part, Mapping):
            to_visit.append(_visits(schema, part, of))
    return steps


def _visits(root: Mapping[str, Any], node: Mapping[str, Any], value: Any) -> Iterator[Visit]:
    """Parts of a schema that look at a value or at its parts, with what they look at."""
    yield from ((node[key], value) for key in _SAME_VALUE if key in node)
    yield from ((item, value) for key in _ALTERNATIVES for item in _listed(node, key))
    if "$ref" in node:
        yield _resolved(root, node["$ref"]), value
    yield from ((item, value) for item in _named(node, "dependentSchemas").values())
    if isinstance(value, dict):
        properties, patterns = _named(node, "properties"), _named(node, "patternProperties")
        others = [node[key] for key in _OTHERS if _is_nested(node.get(key))]
        names = [{"pattern": pattern} for pattern in patterns]
        names += [node["propertyNames"]] if "propertyNames" in node else []
        for key, item in value.items():
            yield from ((part, key) for part in names)
            if _is_nested(properties.get(key)):
                yield properties[key], item
            if patterns or key not in properties:
                yield from ((part, item) for part in (*patterns.values(), *others))
    elif isinstance(value, list):
        yield from zip(_listed(node, "prefixItems"), value, strict=False)
        yield from zip(_listed(node, "items"), value, strict=False)
        items = [node[key] for key in _ITEMS if _is_nested(node.get(key))]
        yield from ((part, item) for item in value if items for part in items)


def _looks(pattern: Any, text: str) -> int:
    if not isinstance(pattern, str) or not _LOOKS_AROUND.search(pattern):
        return 0
    return (len(text) // _LOOKS_OF_A_STEP) ** 2


def _is_nested(part: Any) -> bool:
    return isinstance(part, Mapping) and not _NESTING.isdisjoint(part)


def _listed(node: Mapping[str, Any], key: str) -> list[Any]:
    found = node.get(key)
    return found if isinstance(found, list) else []


def _named(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = node.get(key)
    return found if isinstance(found, Mapping) else {}


def _resolved(root: Any, reference: str) -> Any:
    found = root
    for step in reference.split("/")[1:]:
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(key)] if isinstance(found, list) else found[key]
        except (LookupError, TypeError, ValueError):
            raise ValueError(f"the schema has no {reference}") from None
    return found
