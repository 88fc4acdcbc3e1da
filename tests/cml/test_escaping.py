import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.cml import ReasoningTags, Unescaper, Vocabulary, escape, unescape
from cml_support import FRAGMENTS, SPELLINGS, cut, streams


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
    assert not held or any(("~" + s[1:]).startswith(held) for s in SPELLINGS.values())


def test_a_long_run_of_quotings_is_passed_on() -> None:
    unescaper = Unescaper()
    assert unescaper.feed("[" + "~" * 10_000) == "[" + "~" * 9_999
    assert unescaper.feed("~EN") == "~"
    assert unescaper.feed("D] x") == "END] x"


def test_without_reasoning_tags_they_are_plain_text() -> None:
    vocabulary = Vocabulary(reasoning=None)
    assert escape("<think>[END]", vocabulary) == "<think>[~END]"


@given(streams)
def test_other_reasoning_tags_are_escaped_too(text: str) -> None:
    vocabulary = Vocabulary(ReasoningTags("[THINK]", "[/THINK]"))
    mixed = f"[THINK]{text}[/THINK]"
    assert "[/THINK]" not in escape(mixed, vocabulary)
    assert unescape(escape(mixed, vocabulary), vocabulary) == mixed
