"""Tools that do not exist: names, descriptions and parameters made up anew for each task."""

import math
import random

from caesura.cml.frames import JsonObject
from caesura.lab.train.held_out import is_held_out
from caesura.lab.train.wide.tools import SchemaTool

_ENTITIES = (
    "order", "invoice", "customer", "flight", "city", "parcel", "employee", "product", "book",
    "patient", "server", "room", "vehicle", "account", "ticket", "contract", "sensor", "hotel",
    "course", "supplier", "machine", "project", "station", "film", "shop",
)  # fmt: skip

_WORDS: JsonObject = {
    "type": "string",
    "enum": ["active", "closed", "pending", "late", "ready", "lost", "open", "paid", "blocked"],
}
_TEXT: JsonObject = {"type": "string"}
_WHOLE: JsonObject = {"type": "integer"}
_REAL: JsonObject = {"type": "number"}
_DATE: JsonObject = {"type": "string", "format": "date"}

_ATTRIBUTES: dict[str, JsonObject] = {
    "status": _WORDS,
    "state": _WORDS,
    "price": _REAL,
    "cost": _REAL,
    "owner": _TEXT,
    "manager": _TEXT,
    "location": _TEXT,
    "address": _TEXT,
    "contact": _TEXT,
    "provider": _TEXT,
    "code": _TEXT,
    "number": _WHOLE,
    "count": _WHOLE,
    "capacity": _WHOLE,
    "stock level": _WHOLE,
    "weight": _REAL,
    "temperature": _REAL,
    "balance": _REAL,
    "rating": _REAL,
    "due date": _DATE,
    "start date": _DATE,
    "category": _TEXT,
    "version": _TEXT,
    "size": {"type": "object", "properties": {"width": _WHOLE, "height": _WHOLE},
             "required": ["width", "height"]},
    "summary": {"type": "object", "properties": {"title": _TEXT, "pages": _WHOLE},
                "required": ["title", "pages"]},
}  # fmt: skip
_VERBS = ("get", "fetch", "find", "lookup", "read", "query", "check")
_DESCRIPTIONS = (
    "Returns the {attribute} of {article} {entity}.",
    "Look up the {attribute} of {article} {entity}.",
    "Gives the {attribute} for one {entity}.",
    "The {attribute} of {article} {entity}, from the register.",
    "Finds out the current {attribute} of {article} {entity}.",
    "Asks the service for the {attribute} of {article} {entity}.",
)
_OPTIONS: dict[str, JsonObject] = {
    "unit": {"type": "string", "enum": ["metric", "imperial"]},
    "language": {"type": "string", "enum": ["en", "de", "fr", "es"]},
    "day": _DATE,
    "limit": {"type": "integer", "minimum": 1, "maximum": 50},
    "detailed": {"type": "boolean"},
    "tags": {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 3},
    "threshold": {"type": "number", "minimum": 0, "maximum": 100},
    "region": _TEXT,
    "window": {
        "type": "object",
        "properties": {"from": _DATE, "to": _DATE},
        "required": ["from", "to"],
    },
}


class RandomTools:
    """Draws tools.

    Args:
        source: of randomness.
        held_out: draw tools that the other side never draws. What a tool is for decides.
    """

    def __init__(self, source: random.Random, held_out: bool = False) -> None:
        self._source = source
        self._held_out = held_out

    def draw(self, count: int) -> list[SchemaTool]:
        """Different tools, of which no two give the same."""
        tools: dict[str, SchemaTool] = {}
        while len(tools) < count:
            tool = self._tool()
            if all(tool.name != other.name for other in tools.values()):
                tools.setdefault(tool.topic, tool)
        return list(tools.values())

    def _tool(self) -> SchemaTool:
        source = self._source
        while True:
            entity, attribute = source.choice(_ENTITIES), source.choice(list(_ATTRIBUTES))
            if is_held_out(f"{entity} {attribute}", 6) == self._held_out:
                break
        description = source.choice(_DESCRIPTIONS).format(
            attribute=attribute, entity=entity, article="an" if entity[0] in "aeiou" else "a"
        )
        return SchemaTool(
            name=self._name(entity, attribute),
            description=description,
            parameters=self._parameters(entity),
            topic=f"the {entity} {attribute}",
            expected_seconds=self.expected_seconds(),
            returns=_ATTRIBUTES[attribute],
        )

    def expected_seconds(self) -> float | None:
        """1 ms to 3 s, to two digits; sometimes nobody knows."""
        if self._source.random() < 0.1:
            return None
        seconds = math.exp(self._source.uniform(math.log(0.001), math.log(3.0)))
        return float(f"{seconds:.2g}")

    def _name(self, entity: str, attribute: str) -> str:
        verb = self._source.choice(_VERBS)
        words = attribute.split()
        match self._source.randrange(4):
            case 0:
                return "_".join([verb, entity, *words])
            case 1:
                return "_".join([entity, *words])
            case 2:
                return verb + "".join(word.title() for word in (entity, *words))
            case _:
                return "_".join([*words, "of", entity])

    def _parameters(self, entity: str) -> JsonObject:
        source = self._source
        main, schema = source.choice(
            [
                (f"{entity}_id", _TEXT),
                (f"{entity}_id", _WHOLE),
                (entity, _TEXT),
                (f"{entity}_name", _TEXT),
                ("id", _TEXT),
            ]
        )
        described = {"description": f"Which {entity}.", **schema}
        properties: JsonObject = {main: described if source.random() < 0.5 else dict(schema)}
        required = [main]
        for name in source.sample(list(_OPTIONS), source.choice((0, 0, 1, 1, 2))):
            properties[name] = dict(_OPTIONS[name])
            if source.random() < 0.4:
                required.append(name)
        return {"type": "object", "properties": properties, "required": list(required)}
