"""JSON schemas that come from elsewhere."""

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


def test_half_of_a_surrogate_pair_is_a_problem_of_the_arguments() -> None:
    with pytest.raises(InvalidArguments, match="surrogate"):
        ArgumentSchema({"properties": {"x": {"type": "integer"}}}).check({"x": "\ud83d"})


def test_messages_are_bounded() -> None:
    problem = Schema({"type": "integer"}).problem("x" * 10_000)
    assert problem is not None
    assert len(problem) == 500
