"""Text between and behind calls, however an output is cut into pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.engine.model.text_around_calls import Around, with_text_around_calls

BEGINS, ENDS, ALL_END = "<call>", "</call>", "</calls>"
PIECES = ["<call>", "</call>", "</calls>", "<ca", "ll>", "</", "a", " ", "\n", "b c"]


def read(*pieces: str, all_end: str | None = None) -> str:
    around = Around(BEGINS, ENDS, all_end)
    return "".join(map(around.feed, pieces)) + around.finish()


@pytest.mark.parametrize(
    ("text", "outside"),
    [
        ("no call at all", ""),
        ("before <call>x</call>", ""),
        ("before <call>x</call> behind", " behind"),
        ("<call>x</call>\n<call>y</call>\n", ""),
        ("<call>x</call> one <call>y</call> two ", " one  two"),
        ("<call>x</call> a < b", " a < b"),
        ("<call>x</call> a <ca", " a <ca"),
        ("<call>left open </cal", ""),
        ("<call><call>x</call> behind", " behind"),
    ],
)
def test_what_is_outside_of_calls(text: str, outside: str) -> None:
    assert read(text) == outside
    assert read(*text) == outside, "in single characters"


def test_the_marker_that_closes_all_calls_is_no_text() -> None:
    assert read("<call>x</call></calls> behind", all_end=ALL_END) == " behind"
    assert read(*"<call>x</call></calls> behind", all_end=ALL_END) == " behind"


@given(st.lists(st.sampled_from(PIECES)), st.data())
def test_pieces_make_no_difference(parts: list[str], data: st.DataObject) -> None:
    text, pieces, start = "".join(parts), [], 0
    while start < len(text):
        end = data.draw(st.integers(start + 1, len(text)))
        pieces.append(text[start:end])
        start = end
    assert read(*pieces, all_end=ALL_END) == read(text, all_end=ALL_END)


def test_a_parser_without_known_markers_stays_as_it_is() -> None:
    assert with_text_around_calls(None) is None
    assert with_text_around_calls(str) is str
