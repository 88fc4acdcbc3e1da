import random
from typing import Any

import jsonschema_rs
import pytest

from caesura.errors import ConfigurationError
from caesura.lab.train.wide.tools import definition_of, tool_of, topic_of, words_of
from caesura.lab.train.wide.values import Values, told

SCHEMAS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "string", "minLength": 12, "maxLength": 14},
    {"type": "string", "maxLength": 4},
    {"type": "string", "enum": ["a", "b"]},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "email"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "pattern": "^x+$", "examples": ["xxx"]},
    {"type": "integer"},
    {"type": "integer", "minimum": 3, "maximum": 5},
    {"type": "integer", "minimum": 10_000},
    {"type": "integer", "multipleOf": 50},
    {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3},
    {"type": "number", "minimum": 0.25, "maximum": 0.5},
    {"type": "number", "maximum": -5},
    {"type": "boolean"},
    {"type": ["null", "integer"]},
    {"const": 7},
    {"anyOf": [{"type": "null"}, {"type": "integer"}]},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4},
    {
        "type": "object",
        "properties": {"from": {"$ref": "#/$defs/place"}, "to": {"$ref": "#/$defs/place"}},
        "required": ["from"],
        "$defs": {"place": {"type": "string", "enum": ["Oslo", "Rome"]}},
    },
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
@pytest.mark.parametrize("held_out", [False, True])
def test_values_fit_their_schema(schema: dict[str, Any], held_out: bool) -> None:
    values = Values(random.Random(1), held_out)
    for _ in range(30):
        jsonschema_rs.validate(schema, values.draw(schema))


@pytest.mark.parametrize("schema", [{"type": "string"}, {"type": "integer"}, {"type": "number"}])
def test_values_are_on_one_side_of_the_hold_out(schema: dict[str, Any]) -> None:
    sides = [
        {str(values.draw(schema)) for _ in range(300)}
        for values in (Values(random.Random(2)), Values(random.Random(3), held_out=True))
    ]
    assert len(sides[0]) > 200
    assert not sides[0] & sides[1]


@pytest.mark.parametrize(
    ("schema", "advice"),
    [
        ({"type": "string", "pattern": "^[0-9]{3}$"}, "give it examples"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "leave no value"),
        ({"$ref": "#/$defs/missing"}, "has no '#/\\$defs/missing'"),
        ({"type": "text"}, "no JSON type 'text'"),
    ],
)
def test_what_cannot_be_made_up_is_refused_with_advice(schema: dict[str, Any], advice: str) -> None:
    with pytest.raises(ConfigurationError, match=advice):
        Values(random.Random(0)).draw(schema)


def test_values_are_told_without_json() -> None:
    assert told("Oslo") == "Oslo"
    assert told(True) == "true"
    assert told({"celsius": 7.5, "wind": [1, 2]}) == "celsius 7.5, wind 1, 2"


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("get_order_status", "the order status"),
        ("lookupOrderStatus", "the order status"),
        ("weather", "the weather"),
        ("search", "the result of search"),
        ("HTTPLatency", "the http latency"),
    ],
)
def test_topics_come_from_names(name: str, topic: str) -> None:
    assert topic_of(name) == topic


def test_words_of_a_name_are_never_none() -> None:
    assert words_of("x2") == "x 2"
    assert words_of("__") == "__"


def test_a_definition_is_read_back() -> None:
    definition = {
        "type": "function",
        "function": {
            "name": "get_price",
            "parameters": {"type": "object", "properties": {"item": {"type": "string"}}},
            "expected_seconds": 2,
        },
    }
    tool = tool_of(definition)
    assert tool.topic == "the price"
    assert tool.expected_seconds == 2
    assert tool_of(definition_of(tool)) == tool


@pytest.mark.parametrize(
    "definition",
    [
        {},
        {"name": "no spaces"},
        {"name": "a", "parameters": []},
        {"name": "a", "expected_seconds": 0},
        {"name": "a", "returns": "string"},
        {"function": "a"},
    ],
)
def test_what_is_no_definition_is_refused(definition: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        tool_of(definition)
