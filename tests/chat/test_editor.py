"""A line that is being typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.chat.editor import LineEditor

LEFT, RIGHT, UP, DOWN, HOME, DELETE = "\x1b[D", "\x1b[C", "\x1b[A", "\x1b[B", "\x1b[H", "\x1b[3~"


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("hello", "hello"),
        ("hallo\x7f\x7f\x7f\x7fello", "hello"),
        (f"hllo{LEFT}{LEFT}{LEFT}e", "hello"),
        (f"ello{HOME}h", "hello"),
        (f"xhello{HOME}{DELETE}", "hello"),
        ("wrong\x15hello", "hello"),
        ("hello you\x17there", "hello there"),
        ("hello\x01\x05!", "hello!"),
        (f"{LEFT}{RIGHT}{UP}{DOWN}\x7fhello", "hello"),
        ("smörgås 日本", "smörgås 日本"),
        ("\x1b[200~hello\x1b[1;5C\x1bOP", "hello"),  # keys that do nothing here
        ("he\x00\x07llo", "hello"),
    ],
)
def test_keys_make_a_line(keys: str, line: str) -> None:
    assert LineEditor().feed(f"{keys}\r") == [line]


def test_several_lines_may_arrive_at_once() -> None:
    editor = LineEditor()
    assert editor.feed("one\ntwo\nthr") == ["one", "two"]
    assert (editor.text, editor.cursor) == ("thr", 3)


def test_lines_are_recalled() -> None:
    editor = LineEditor()
    editor.feed("one\rtwo\r")
    assert editor.feed(f"{UP}{UP}\r") == ["one"]
    assert editor.feed(f"{UP}{UP}{DOWN}{DOWN}three\r") == ["three"]


def test_the_end_of_input_counts_on_an_empty_line_only() -> None:
    editor = LineEditor()
    editor.feed("x\x04")
    assert not editor.is_closed
    editor.feed("\x7f\x04")
    assert editor.is_closed


@given(st.text(st.sampled_from("ab\x1b[D[3~\x7f\x15\r")), st.integers(0, 20))
def test_keys_mean_the_same_in_pieces(keys: str, cut: int) -> None:
    whole, parts = LineEditor(), LineEditor()
    assert whole.feed(keys) == parts.feed(keys[:cut]) + parts.feed(keys[cut:])
    assert (whole.text, whole.cursor) == (parts.text, parts.cursor)
