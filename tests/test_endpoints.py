"""Names of what pauses wait for."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.endpoints import CLIENT, HUMAN, OTHER, EndpointNames, endpoint_name

NAME = re.compile(r"[A-Za-z0-9_.:+-]{1,64}")
ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # lone surrogates, too


@given(ANY_TEXT)
def test_any_text_has_a_name_that_is_safe_everywhere(text: str) -> None:
    name = endpoint_name(text)
    assert NAME.fullmatch(name)
    assert endpoint_name(name) == name


@given(ANY_TEXT, ANY_TEXT)
def test_different_texts_have_different_names(first: str, second: str) -> None:
    assert (endpoint_name(first) == endpoint_name(second)) == (first == second)


@pytest.mark.parametrize("name", ["search", "files.read", "a+b", "mcp:x-y", "client", "x" * 64])
def test_usual_names_stay_as_they_are(name: str) -> None:
    assert endpoint_name(name) == name


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("", "name-"),
        ("a|b", "a_b-"),
        ("\ud800", "name-"),
        ("天气", "name-"),
        ('say "hi"\n', "say_hi-"),
        ("x" * 65, "x" * 40 + "-"),
        ("y" * 2**20, "y" * 40 + "-"),
    ],
)
def test_what_can_be_read_of_other_texts_is_kept(text: str, begins: str) -> None:
    assert endpoint_name(text).startswith(begins)


def test_long_texts_of_different_lengths_have_different_names() -> None:
    assert endpoint_name("z" * 2**20) != endpoint_name("z" * (2**20 + 1))


def test_an_owner_that_invents_names_takes_none_from_others() -> None:
    names = EndpointNames(per_owner=3, in_all=100)
    assert [names.admit(f"tool{n}", "one") for n in range(5)] == [
        "tool0",
        "tool1",
        "tool2",
        OTHER,
        OTHER,
    ]
    assert names.admit("search", "two") == "search"
    assert names.admit("search", "one") == "search", "it is known, whoever had it first"
    assert names.admit("tool0", "two") == "tool0"


def test_many_owners_together_introduce_a_bounded_number_of_names() -> None:
    names = EndpointNames(per_owner=3, in_all=10)
    seen = {names.admit(f"{owner}-{n}", str(owner)) for owner in range(1000) for n in range(3)}
    assert len(seen - {OTHER}) == 10


def test_names_that_mean_something_are_not_counted() -> None:
    names = EndpointNames(per_owner=0)
    assert [names.admit(name, None) for name in (CLIENT, HUMAN, "search")] == [CLIENT, HUMAN, OTHER]
