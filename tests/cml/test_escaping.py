import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.cml import MARKERS, escape, unescape
from caesura.cml.escaping import Unescaper
from caesura.cml.markers import ALL_SYMBOLS, ESCAPE
from support.cml.streams import FRAGMENTS, SPELLINGS, cut, streams


@given(streams)
def test_the_original_text_can_be_recovered(text: str) -> None:
    assert unescape(escape(text)) == text


@given(streams, st.integers(1, 4))
def test_what_was_escaped_several_times_is_recovered_level_by_level(text: str, times: int) -> None:
    levels = [text]
    for _ in range(times):
        levels.append(escape(levels[-1]))
    while len(levels) > 1:
        assert unescape(levels.pop()) == levels[-1]


@given(st.lists(streams, max_size=4), st.sampled_from(FRAGMENTS))
def test_no_marker_is_left_even_where_escaped_texts_and_markers_meet(
    texts: list[str], between: str
) -> None:
    assert not any(marker in escape(text) for text in texts for marker in SPELLINGS.values())
    stream = "[END]".join(escape(text) for text in [*texts, between])
    assert stream.count("[END]") == len(texts)
    others = [spelling for spelling in SPELLINGS.values() if spelling != "[END]"]
    assert not any(marker in stream for marker in others)


@pytest.mark.parametrize(
    "text", ["", "plain", "[call]", "[ END]", "END]", "[END", "[1, 2]", "~/notes", "[~]", "a < b"]
)
def test_text_without_a_marker_stays_as_it_is(text: str) -> None:
    assert escape(text) == unescape(text) == text


def test_a_quoted_marker_reads_well() -> None:
    assert escape("a [END] and [~END], <think>") == "a [~END] and [~~END], <~think>"


@pytest.mark.parametrize(
    ("before", "text", "expected"),
    [
        ("[", "END]", "~END]"),
        ("[", "~END]", "~~END]"),
        ("[EN", "D]", "~D]"),
        ("[~EN", "D] [END]", "~D] [~END]"),
        ("[E~", "~ND]", "~~ND]"),
        ("<thi", "nk>", "~nk>"),
        ("[END]", "END]", "END]"),
        ("[EN", "d]", "d]"),
    ],
)
def test_a_marker_that_begins_before_a_text_is_quoted_in_it(
    before: str, text: str, expected: str
) -> None:
    assert escape(text, before=before) == expected


@given(st.lists(streams, max_size=5))
def test_texts_are_escaped_one_behind_the_other(texts: list[str]) -> None:
    escaped = ""
    for text in texts:
        escaped += escape(text, before=escaped)
    assert unescape(escaped) == "".join(texts)
    assert not any(marker in escaped for marker in SPELLINGS.values())


@given(streams, st.lists(st.integers(0, 5)))
def test_in_pieces_the_same_is_recovered(text: str, lengths: list[int]) -> None:
    unescaper = Unescaper()
    parts = [unescaper.feed(piece) for piece in cut(text, lengths)]
    assert "".join(parts) + unescaper.flush() == unescape(text)


@given(streams)
def test_no_more_is_held_back_than_the_inside_of_one_quoted_marker(text: str) -> None:
    unescaper = Unescaper()
    unescaper.feed(text)
    held = unescaper.flush()
    assert text.endswith(held)
    insides = ["~" + s[cut:] for s in SPELLINGS.values() for cut in range(1, len(s))]
    assert not held or any(inside.startswith(held) for inside in insides)


def test_a_long_run_of_quotings_is_passed_on() -> None:
    unescaper = Unescaper()
    assert unescaper.feed("[" + "~" * 10_000) == "[" + "~" * 9_999
    assert unescaper.feed("~EN") == "~"
    assert unescaper.feed("D] x") == "END] x"


def test_without_reasoning_tags_they_are_plain_text() -> None:
    assert escape("<think>[END]", MARKERS) == "<think>[~END]"
    assert unescape("<~think>[~END]", MARKERS) == "<~think>[END]"


def test_what_the_escape_relies_on() -> None:
    """A symbol begins nowhere inside another, and none is quoted already."""
    openers = {symbol.value[0] for symbol in ALL_SYMBOLS}
    assert not any(openers & set(symbol.value[1:]) for symbol in ALL_SYMBOLS)
    assert not any(ESCAPE in symbol.value for symbol in ALL_SYMBOLS)
