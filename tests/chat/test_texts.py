"""Texts become lines of a terminal, and steer nothing."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from caesura.chat.texts import pieces, settled, shortened, wrapped

# Words and spaces, narrow and wide, with combining characters and sequences.
UNITS = [
    "a",
    "bc",
    "longer",
    " ",
    "  ",
    "\t",
    "日",
    "本",
    "。",
    "e\u0301",
    "👨‍👩‍👧",
    "☀\ufe0f",
    "n\u0303",
]
UNITS_OF_TEXTS = st.lists(st.sampled_from([*UNITS, "\n"]), max_size=60)
TEXTS = UNITS_OF_TEXTS.map("".join)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Pleased to help you", ["Pleased to", "help you"]),
        ("Pleased to  help", ["Pleased to", "help"]),
        ("    indented", ["    indented"]),
        ("one\n\n  two", ["one", "", "  two"]),
        ("see https://example.org/path now", ["see", "https://example.org/path", "now"]),
        ("在庫を確認しています。", ["在庫を確認し", "ています。"]),
        ("在庫を確認中。", ["在庫を確認", "中。"]),
        ("Ame\u0301lie Ame\u0301lie", ["Ame\u0301lie", "Ame\u0301lie"]),
        ("fa\u0301u\u0301e\u0301e\u0301 i\u0301", ["fa\u0301u\u0301e\u0301e\u0301 i\u0301"]),
    ],
)  # fmt: skip
def test_lines_break_between_words_and_between_wide_characters(text: str, lines: list[str]) -> None:
    assert wrapped(text + " ", 12)[: len(lines)] == [*lines[:-1], f"{lines[-1]} "]


def test_lines_may_be_indented_and_a_narrow_terminal_has_no_room_for_that() -> None:
    text = "one two three four five six"
    assert wrapped(text, 21, first="? ", rest="│ ") == ["? one two three four", "│ five six"]
    assert wrapped(text, 9, first="? ", rest="│ ") == ["one two", "three", "four five", "six"]
    assert wrapped("one\ntwo", None, first="? ", rest="│ ") == ["? one", "│ two"]


@given(TEXTS, st.integers(1, 30))
def test_lines_fit_and_nothing_is_lost(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    for line in lines:
        alone = len(wrapped(line.strip(), 1)) == 1
        assert cell_len(line.rstrip()) <= width or alone
        assert not line or not unicodedata.combining(line[0])


@given(UNITS_OF_TEXTS, st.integers(1, 30), st.lists(st.integers(1, 9)))
def test_a_text_in_pieces_has_the_lines_of_the_whole(
    units: list[str], width: int, sizes: list[int]
) -> None:
    lines, last, kept, rest = [], "", "", units
    for size in [*sizes, len(units)]:
        *complete, last = wrapped(last + "".join(rest[:size]), width)
        rest = rest[size:]
        assert not complete or complete[0].startswith(kept.rstrip())
        kept = settled(last)  # may be written: it does not move to the next line
        lines += complete
    assert [*lines, last] == wrapped("".join(units), width)


def test_a_text_is_shortened_between_words() -> None:
    assert shortened("one two\n three four", 12) == "one two…"
    assert shortened("one two\n three four", 20) == "one two three four"
    assert shortened("one two\n three four", None) == "one two three four"


@given(UNITS_OF_TEXTS.map("".join), st.integers(2, 30))
def test_pieces_are_the_line_and_fit(line: str, cells: int) -> None:
    found = pieces(line, cells)
    assert "".join(found) == line
    assert all(cell_len(piece) <= cells for piece in found)


def test_pieces_end_behind_a_space_if_one_is_near_their_end() -> None:
    assert pieces("one two three", 10) == ["one two ", "three"]
    assert pieces("a longestword", 10) == ["a longestw", "ord"]
    assert pieces("one two three", None) == ["one two three"]
