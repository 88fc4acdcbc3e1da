"""Texts and JSON with places for values: `{query}`, `{steps[0].results[0].url}`."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from caesura.tools.failure import InvalidArguments

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_REFERENCE = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+|\[\d+\])*")
_KEY = re.compile(r"[\w-]+")


class MissingValue(InvalidArguments):
    """A place whose value is not there; the message names what is missing."""


def as_text(value: JsonValue) -> str:
    """A value inside a text: texts as they are, others as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Reference:
    """A place: which value goes there.

    Attributes:
        text: as it was written.
        path: keys and indices from the outermost value inwards.
    """

    text: str
    path: tuple[str | int, ...]

    @property
    def name(self) -> str:
        """The outermost key: an argument's name, or `steps`."""
        return str(self.path[0])

    def value(self, scope: Mapping[str, JsonValue]) -> JsonValue:
        """What the path leads to.

        Raises:
            MissingValue: it leads nowhere.
        """
        value: JsonValue = dict(scope)
        for key in self.path:
            if isinstance(value, list) and isinstance(key, int) and key < len(value):
                value = value[key]
            elif isinstance(value, dict) and key in value:
                value = value[str(key)]
            else:
                raise MissingValue(f"there is no {self.text}")
        return value


@dataclass(frozen=True, slots=True)
class TextTemplate:
    """A text with places.

    Attributes:
        parts: literal texts and references, in order.
    """

    parts: tuple[str | Reference, ...]

    @property
    def references(self) -> Iterator[Reference]:
        """The places, in order."""
        return (part for part in self.parts if isinstance(part, Reference))

    def fill(
        self, scope: Mapping[str, JsonValue], encode: Callable[[JsonValue], str] = as_text
    ) -> str:
        """The text with values, each written by `encode`.

        Raises:
            MissingValue: a value is not there.
        """
        return "".join(
            part if isinstance(part, str) else encode(part.value(scope)) for part in self.parts
        )


def parse_template(text: str) -> TextTemplate:
    """Find the places of a text; `{{` and `}}` stand for braces.

    Raises:
        ValueError: a brace has no partner, or what stands between them is no reference.
    """
    parts: list[str | Reference] = []
    for match in _PART.finditer(text):
        token = match[0]
        if token in {"{", "}"}:
            raise ValueError(f"a lone {token!r}; write {token * 2!r} for a brace")
        if match[1] is None:
            parts.append(token[0] if token in {"{{", "}}"} else token)
            continue
        if _REFERENCE.fullmatch(match[1]) is None:
            raise ValueError(f"{token!r} is no place for a value; write it as in {{query}}")
        keys = _KEY.findall(match[1])
        path = (keys[0], *(int(key) if key.isdecimal() else key for key in keys[1:]))
        parts.append(Reference(match[1], path))
    return TextTemplate(tuple(parts))


def references_in(value: JsonValue) -> Iterator[Reference]:
    """The places in JSON.

    Raises:
        ValueError: a text in it is no template.
    """
    if isinstance(value, str):
        yield from parse_template(value).references
    elif isinstance(value, list):
        for item in value:
            yield from references_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from references_in(item)


def fill_json(value: JsonValue, scope: Mapping[str, JsonValue]) -> JsonValue:
    """JSON with values in its places; a text that is only a place becomes the value itself.

    Raises:
        MissingValue: a value is not there.
    """
    if isinstance(value, str):
        template = parse_template(value)
        if len(template.parts) == 1 and isinstance(template.parts[0], Reference):
            return template.parts[0].value(scope)
        return template.fill(scope)
    if isinstance(value, list):
        return [fill_json(item, scope) for item in value]
    if isinstance(value, dict):
        return {key: fill_json(item, scope) for key, item in value.items()}
    return value
