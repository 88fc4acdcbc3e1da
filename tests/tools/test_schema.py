"""JSON schemas that come from elsewhere."""

from typing import Any

import pytest

from caesura.tools.failure import InvalidArguments
from caesura.tools.schema import ArgumentSchema, Schema


def test_a_problem_says_where_it_is() -> None:
    schema = Schema({"properties": {"a": {"items": {"type": "integer"}}}})
    assert schema.problem({"a": [1, 2]}) is None
    assert schema.problem({"a": [1, "x"]}) == 'a[1]: "x" is not of type "integer"'


@pytest.mark.parametrize(
    "document",
    [
        {"properties": {"x": {"type": "objec"}}},
        {"properties": {"x": {"$ref": "#/$defs/missing"}}},
        {"properties": {"x": {"$ref": "https://example.com/schema"}}},
        {"properties": {"x": {"$ref": "file:///etc/hostname"}}},
        {"properties": {"x": {"pattern": "("}}},
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(document) -> None:
    with pytest.raises(ValueError, match="not a JSON schema: "):
        ArgumentSchema(document)


def test_a_dialect_that_is_not_known_is_read_as_the_newest_draft() -> None:
    schema = Schema({"$schema": "https://example.com/ours", "type": "integer"})
    assert schema.problem("x") is not None


def test_older_drafts_are_kept() -> None:
    draft4 = {"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 3}
    assert Schema(draft4 | {"exclusiveMaximum": True}).problem(3) is not None


def test_a_pattern_that_backtracks_for_ever_is_given_up() -> None:
    schema = Schema({"pattern": "^(?=a)((a+)+)+b\\1$"})
    assert schema.problem("a" * 5_000) is not None


def doubled(levels: int) -> dict[str, Any]:
    twice = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": twice | {f"d{levels}": {}}, "$ref": "#/$defs/d0"}


def tree(*kinds: str) -> dict[str, Any]:
    branch = {"$ref": "#/$defs/tree"}
    of = [{"properties": {"kind": {"const": kind}, "of": branch}} for kind in kinds]
    return {"$defs": {"tree": {"anyOf": of}}, "$ref": "#/$defs/tree"}


def nested(levels: int, kind: str) -> dict[str, Any]:
    value: dict[str, Any] = {"kind": kind}
    for _ in range(levels):
        value = {"kind": kind, "of": value}
    return value


@pytest.mark.parametrize(
    ("document", "value"),
    [
        (doubled(40), {}),
        (doubled(40), 1),
        (tree("a", "b"), nested(100, "c")),
        ({"$ref": "#", "allOf": [{"$ref": "#"}]}, 1),
        ({"items": {"pattern": "(?=.*b)(?=.*c)"}}, ["a" * 100_000]),
        ({"patternProperties": {"(?=.*b)(?=.*c)": {}}}, {"a" * 100_000: 1}),
        ({"propertyNames": {"pattern": "(?=.*b)(?=.*c)"}}, {"a" * 100_000: 1}),
        ({"items": {"$ref": "#/$defs/d0"}, **doubled(12)}, [1] * 100_000),
        ({"allOf": [{"items": {"type": "integer"}}] * 1000}, [1] * 100_000),
    ],
)
def test_a_check_that_would_take_too_long_is_not_begun(document: Any, value: Any) -> None:
    assert Schema(document).problem(value) == "it takes too long to check; make it smaller"


@pytest.mark.parametrize(
    ("document", "value"),
    [
        (doubled(8), {}),
        (tree("a", "b"), nested(10, "b")),
        ({"items": {"type": "integer"}}, [1] * 1_000_000),
        ({"uniqueItems": True}, [{"x": number, "y": [number]} for number in range(5_000)]),
        ({"items": {"pattern": "^(a+)+$"}}, ["a" * 1_000]),
        ({"prefixItems": [{"$ref": "#/$defs/a~1b"}], "$defs": {"a/b": {"const": 1}}}, [1, 2]),
    ],
)
def test_what_takes_no_time_is_checked(document: Any, value: Any) -> None:
    assert Schema(document).problem(value) is None


def test_what_is_wrong_is_not_looked_for_too_long() -> None:
    assert Schema(tree("a", "b")).problem(nested(9, "c")) == "it does not fit the schema"


@pytest.mark.parametrize(
    ("part", "fits", "fails"),
    [
        ({"type": "number", "multipleOf": 0.01}, [19.99, 4.35, 0.07], [19.999]),
        ({"type": "string", "nullable": True}, [None, "x"], [1]),
        ({"type": "string", "nullable": True, "enum": ["a"]}, [None, "a"], ["b"]),
        ({"minimum": 0, "exclusiveMinimum": True}, [0.1], [0]),
        ({"maximum": 0, "exclusiveMaximum": True}, [-0.1], [0]),
        ({"maximum": 0, "exclusiveMaximum": False}, [0], [0.1]),
        ({"pattern": r"^[\p{L}\p{N} ]+$"}, ["Überfall 3"], ["!"]),
        ({"pattern": r"^(?<year>\d{4})-(\d)\2$"}, ["2026-33"], ["2026-34"]),
        ({"type": ["object", "null"], "properties": {"nullable": {"type": "string"}}}, [None], [1]),
        (
            {"properties": {"default": {"nullable": True, "type": "string"}}},
            [{"default": None}],
            [],
        ),
        ({"default": {"nullable": True}, "const": {"$id": "x"}}, [{"$id": "x"}], [{}]),
    ],
)
def test_schemas_of_other_tools_are_read_as_they_are_meant(
    part: Any, fits: list[Any], fails: list[Any]
) -> None:
    schema = Schema({"properties": {"x": part}})
    assert [schema.problem({"x": value}) for value in fits] == [None] * len(fits)
    assert all(schema.problem({"x": value}) for value in fails)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "string", "pattern": "[^]("},
        {"type": "string", "pattern": r"^(?<year>\d{4})-\k<year>$"},
        {"type": "string", "minLength": -1},
        {"type": "string", "required": True},
    ],
)
def test_what_cannot_be_checked_is_left_to_the_tool(
    part: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    document = {"properties": {"x": part, "y": {"type": "integer"}}}
    with pytest.raises(ValueError, match="not a JSON schema"):
        ArgumentSchema(document)
    schema = ArgumentSchema(document, lenient=True)
    schema.check({"x": "anything"})
    with pytest.raises(InvalidArguments):
        schema.check({"x": 1})
    assert schema.document["properties"] == document["properties"]
    assert "not checked here" in caplog.text


def test_a_schema_is_bounded() -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"properties": {"a": deep}}
    for document in (deep, {"enum": ["x" * 10**6]}):
        with pytest.raises(ValueError, match=r"nested more than|longer than"):
            ArgumentSchema(document, lenient=True)


def test_half_of_a_surrogate_pair_is_a_problem_of_the_arguments() -> None:
    with pytest.raises(InvalidArguments, match="surrogate"):
        ArgumentSchema({"properties": {"x": {"type": "integer"}}}).check({"x": "\ud83d"})


def test_messages_are_bounded() -> None:
    problem = Schema({"type": "integer"}).problem("x" * 10_000)
    assert problem is not None
    assert len(problem) == 500
