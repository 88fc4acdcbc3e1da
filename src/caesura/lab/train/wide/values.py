"""Random values that fit a JSON schema, on either side of the hold-out."""

import json
import random
import string
from collections.abc import Callable

from caesura.cml.frames import JsonObject, JsonValue
from caesura.errors import ConfigurationError
from caesura.lab.train.held_out import is_held_out

_SYLLABLES = (
    "ba", "bel", "cor", "da", "den", "el", "fa", "gar", "hol", "in", "jo", "ka", "lin", "lo",
    "mar", "mi", "nor", "or", "pel", "qua", "ra", "ros", "sa", "sten", "ta", "tol", "u", "van",
    "wil", "xe", "yor", "za",
)  # fmt: skip
_TRIES = 100
_FEWEST_VALUES = 200
"""Integers of a smaller range have no sides: too few values would be left to each."""


class Values:
    """Draws values.

    Args:
        source: of randomness.
        held_out: draw values that the other side never draws. Values of which there are few
            (enumerations, truth values, small ranges, examples) have no sides.
    """

    def __init__(self, source: random.Random, held_out: bool = False) -> None:
        self._source = source
        self._held_out = held_out

    def draw(self, schema: JsonObject, root: JsonObject | None = None) -> JsonValue:
        """A value of this schema.

        Args:
            schema: what it must fit.
            root: the document that `$ref` refers to.

        Raises:
            ConfigurationError: no value can be made up for it. Examples in it would do.
        """
        root = schema if root is None else root
        schema = self._resolved(schema, root)
        if "const" in schema:
            return schema["const"]
        for choices in (schema.get("enum"), schema.get("examples")):
            if isinstance(choices, list) and choices:
                return self._source.choice(choices)
        match self._type(schema):
            case "string":
                return self._string(schema)
            case "integer":
                return self._integer(schema)
            case "number":
                return self._number(schema)
            case "boolean":
                return self._source.random() < 0.5
            case "null":
                return None
            case "array":
                return self._array(schema, root)
            case "object":
                return self._object(schema, root)
            case other:
                raise ConfigurationError(f"there is no JSON type {other!r}; check the schema")

    def text(self) -> str:
        """A text that names something: a code, a number or a made-up name."""
        return self._sided(self._name)

    def _resolved(self, schema: JsonObject, root: JsonObject) -> JsonObject:
        """The schema without references and alternatives."""
        for _ in range(_TRIES):
            reference = schema.get("$ref")
            if isinstance(reference, str):
                schema = _referred(root, reference)
                continue
            alternatives = schema.get("anyOf") or schema.get("oneOf")
            if not isinstance(alternatives, list):
                return schema
            schema = next(
                part
                for part in alternatives
                if isinstance(part, dict) and part.get("type") != "null"
            )
        raise ConfigurationError("a schema refers to itself without end")

    def _type(self, schema: JsonObject) -> JsonValue:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((part for part in kind if part != "null"), "null")
        if kind is None:
            return "object" if "properties" in schema else "string"
        return kind

    def _sided(self, make: Callable[[], str]) -> str:
        """A text on this side of the hold-out."""
        for _ in range(_TRIES):
            value = make()
            if is_held_out(value) == self._held_out:
                return value
        raise ConfigurationError("too few values fit a schema; give it an enum or examples")

    def _string(self, schema: JsonObject) -> str:
        if "pattern" in schema:
            raise ConfigurationError(
                f"no value can be made up for the pattern {schema['pattern']!r}; give it examples"
            )
        low, high = _size(schema, "Length", 0, 200)
        match schema.get("format"):
            case "date":
                return self._date()
            case "date-time":
                return f"{self._date()}T{self._clock()}:00Z"
            case "time":
                return f"{self._clock()}:00"
            case "email":
                return f"{self._sided(self._word).lower()}@{self._word().lower()}.com"
            case "uri" | "url":
                return f"https://{self._sided(self._word).lower()}.com/{self._word().lower()}"
            case "uuid":
                digits = f"{self._source.getrandbits(128):032x}"
                return "-".join(
                    digits[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
                )

        def fitting() -> str:
            text = self._name()
            while len(text) < low:
                text += self._source.choice(string.ascii_lowercase)
            return text[:high].strip() or "x" * max(1, low)

        return self._sided(fitting)

    def _name(self) -> str:
        source = self._source
        match source.randrange(5):
            case 0:
                return source.choice(string.ascii_uppercase) + f"{source.randrange(10_000):04}"
            case 1:
                letters = "".join(source.choices(string.ascii_uppercase, k=2))
                return f"{letters}-{source.randrange(1000):03}"
            case 2:
                return f"{source.getrandbits(24):06x}"
            case 3:
                return f"{self._word()} {self._word()}"
            case _:
                return self._word()

    def _word(self) -> str:
        return "".join(
            self._source.choices(_SYLLABLES, k=self._source.choice((2, 3, 3, 4)))
        ).title()

    def _date(self) -> str:
        source = self._source
        year, month, day = (
            source.randrange(2020, 2030),
            source.randint(1, 12),
            source.randint(1, 28),
        )
        return f"{year}-{month:02}-{day:02}"

    def _clock(self) -> str:
        return f"{self._source.randrange(24):02}:{self._source.randrange(60):02}"

    def _integer(self, schema: JsonObject) -> int:
        low, high = _bounds(schema, 1, 9999)
        step = schema.get("multipleOf")
        step = step if isinstance(step, int) and step > 0 else 1
        first, last = -(-int(low) // step), int(high) // step
        if last < first:
            raise ConfigurationError("the bounds of an integer leave no value")
        if last - first < _FEWEST_VALUES:
            return self._source.randint(first, last) * step
        return int(self._sided(lambda: str(self._source.randint(first, last) * step)))

    def _number(self, schema: JsonObject) -> float:
        low, high = _bounds(schema, 0, 1000)
        if high - low < 1:
            return round(self._source.uniform(low, high), 4)
        text = self._sided(lambda: f"{self._source.uniform(low, high):.2f}")
        return min(max(float(text), low), high)

    def _array(self, schema: JsonObject, root: JsonObject) -> JsonValue:
        items = schema.get("items", {"type": "string"})
        low, high = _size(schema, "Items", 1, 3)
        if not isinstance(items, dict):
            raise ConfigurationError('"items" of an array must be a schema')
        drawn: list[JsonValue] = []
        wanted = self._source.randint(low, min(high, low + 2))
        for _ in range(_TRIES):
            if len(drawn) == wanted:
                break
            value = self.draw(items, root)
            if value not in drawn:
                drawn.append(value)
        return drawn

    def _object(self, schema: JsonObject, root: JsonObject) -> JsonValue:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        assert isinstance(properties, dict)
        assert isinstance(required, list)
        return {
            name: self.draw(part, root)
            for name, part in properties.items()
            if isinstance(part, dict) and (name in required or self._source.random() < 0.5)
        }


def told(value: JsonValue) -> str:
    """A value as a sentence says it."""
    match value:
        case str():
            return value
        case list():
            return ", ".join(told(item) for item in value)
        case dict():
            return ", ".join(f"{name} {told(part)}" for name, part in value.items())
        case _:
            return json.dumps(value)


def _referred(root: JsonObject, reference: str) -> JsonObject:
    found: JsonValue = root
    for key in reference.removeprefix("#/").split("/"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise ConfigurationError(f"the schema has no {reference!r}")
    return found


def _bounds(schema: JsonObject, low: float, high: float) -> tuple[float, float]:
    """Bounds of a number; half-open ones are as wide as the default."""
    width = high - low
    is_whole = schema.get("type") == "integer"
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    gap = 1 if is_whole else 0.01
    if isinstance(above, int | float) and not isinstance(above, bool):
        least = above + gap
    if isinstance(below, int | float) and not isinstance(below, bool):
        most = below - gap
    if isinstance(least, int | float):
        return least, most if isinstance(most, int | float) else max(high, least + width)
    if isinstance(most, int | float):
        return min(low, most - width), most
    return low, high


def _size(schema: JsonObject, what: str, low: int, high: int) -> tuple[int, int]:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    low = least if isinstance(least, int) else low
    high = most if isinstance(most, int) else max(high, low)
    return min(low, high), high
