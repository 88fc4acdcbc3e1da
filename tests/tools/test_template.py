import pytest
from pydantic import JsonValue

from caesura.tools.template import (
    MissingValue,
    fill_json,
    parse_template,
    references_in,
)

SCOPE: dict[str, JsonValue] = {
    "query": "red & blue",
    "limit": 3,
    "steps": [{"results": [{"url": "https://a/"}]}, "text"],
}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("{query}", "red & blue"),
        ("q={query}&n={limit}", "q=red & blue&n=3"),
        ("{steps[0].results[0].url}x", "https://a/x"),
        ("{steps[0].results}", '[{"url": "https://a/"}]'),
        ("{{query}} {{{limit}}}", "{query} {3}"),
    ],
)
def test_places_are_filled(text: str, filled: str) -> None:
    assert parse_template(text).fill(SCOPE) == filled


@pytest.mark.parametrize("text", ["{", "}", "{}", "{a b}", "{a.}", "{0}", "{a[x]}", "{a", "a}"])
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"brace|no place"):
        parse_template(text)


@pytest.mark.parametrize("text", ["{other}", "{steps[2]}", "{steps[1].url}", "{query.x}"])
def test_a_place_that_leads_nowhere_is_named(text: str) -> None:
    with pytest.raises(MissingValue, match="there is no "):
        parse_template(text).fill(SCOPE)


def test_in_json_a_lone_place_keeps_the_type_of_its_value() -> None:
    template: JsonValue = {"n": "{limit}", "text": "n={limit}", "list": ["{query}", 1, None]}
    assert fill_json(template, SCOPE) == {"n": 3, "text": "n=3", "list": ["red & blue", 1, None]}
    assert [reference.name for reference in references_in(template)] == [
        "limit",
        "limit",
        "query",
    ]


def test_values_are_never_taken_for_templates() -> None:
    assert fill_json("{query}", {"query": "{secret}", "secret": "x"}) == "{secret}"
