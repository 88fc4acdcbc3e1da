"""What a human decides on is shown as it is: nothing is hidden, and nothing looks like the chat."""

import json
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from caesura.chat.questions import advice
from caesura.chat.quoting import GOES_ON, MARKS, QUOTE, inline, named, question_lines, quoted
from caesura.chat.records import ApprovalView
from caesura.console import visible

CHARACTERS = st.characters(codec="utf-8") | st.sampled_from(
    "\u202e\u2066\u200f\u200d\x1b\r\t\u00a0\u3164\ufe0f"
)
TEXTS = st.text(CHARACTERS, max_size=80)
WORDS = st.text(st.sampled_from(" ab\n│┆?›"), max_size=80)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
WIDTHS = st.none() | st.integers(8, 60)


def asked(kind: str = "approval", **fields: object) -> ApprovalView:
    given = {"id": "a", "session_id": "s", "text": "", "tool": "deploy", "state": "waiting"}
    return ApprovalView.model_validate({**given, "kind": kind, **fields})


def unquoted(lines: list[str]) -> str:
    """The text of quoted lines."""
    text = ""
    for line in lines:
        assert line.startswith((QUOTE, GOES_ON))
        text += ("\n" if line.startswith(QUOTE) else "") + line[len(QUOTE) :]
    return text[1:]


@given(TEXTS | WORDS, WIDTHS)
def test_quoted_lines_are_the_text_and_each_is_marked(text: str, width: int | None) -> None:
    lines = quoted(text, width)
    assert unquoted(lines) == visible(text.replace("\r\n", "\n"))
    assert width is None or all(cell_len(line) <= width for line in lines)


@given(TEXTS)
def test_nothing_that_is_shown_is_hidden_or_moves_anything(text: str) -> None:
    for shown in (visible(text), inline(text), named(text), *quoted(text, 20)):
        assert not {unicodedata.category(c) for c in shown if c not in "\n"} & {
            *("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        }
        assert not set(shown) & set("\u00a0\u3164\u115f\u2800\ufe0f\U000e0100")


@given(st.dictionaries(TEXTS, JSON, max_size=4), WIDTHS)
@example({"n": 2**63 + 1, "x": 0.1, "y": 1e300, "z": -0.0}, None)
@example({"a": "\U000e0041\u202e", "a\n": [{}]}, 8)
def test_shown_arguments_are_the_ones_that_the_tool_gets(
    arguments: dict[str, object], width: int | None
) -> None:
    view = asked(arguments=arguments)
    head, *lines = question_lines(view, width)
    assert head == "? Run deploy with:"
    shown = json.loads(unquoted(lines))
    assert json.dumps(shown) == json.dumps(view.arguments) == json.dumps(arguments)


@given(TEXTS | WORDS, st.lists(TEXTS | WORDS, max_size=3), TEXTS | WORDS, WIDTHS)
def test_only_lines_of_the_chat_are_without_a_mark(
    text: str, choices: list[str], name: str, width: int | None
) -> None:
    question = asked("question", text=text, choices=choices, tool=name)
    data = asked("input", text=text, schema={"properties": {name: {"type": text}}}, tool=name)
    for view in (question, data, asked(arguments={name: text}, tool=name, provider=text)):
        lines = question_lines(view, width)
        assert all(len(line.splitlines()) == 1 for line in [*lines, advice(view)])
        ours = [line for line in lines if re.match(r" *[│┆0-9]", line) is None]
        assert len(ours) == (2 if view is data else 1)
        assert ours[0].startswith(("? Run ", "? "))


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("\u202eexe.txt", r"\u202eexe.txt"),
        ("\u2066a\u2069", r"\u2066a\u2069"),
        ("a\u200db\ufeff", r"a\u200db\ufeff"),
        ("\x1b[2J\x9b31m\x7f", r"\u001b[2J\u009b31m\u007f"),
        ("\U000e0041\U000e007f", r"\udb40\udc41\udb40\udc7f"),  # tags: letters that nobody sees
        ("a\u00a0b\u2003c\u3164d\u2800e", r"a\u00a0b\u2003c\u3164d\u2800e"),
        ("a\u0301", "a\u0301"),
        ("a" + 6 * "\u0334", "a" + 4 * "\u0334" + r"\u0334\u0334"),  # struck through the next line
        ("half of a pair: \ud83d", r"half of a pair: \ud83d"),
        ("one\u2028two\x0bthree", r"one\u2028two\u000bthree"),
        ("Grüße, 天气, שלום", "Grüße, 天气, שלום"),
    ],
)
def test_characters_that_are_not_seen_are_escaped(hidden: str, shown: str) -> None:
    assert visible(hidden) == shown


def test_the_tool_and_who_runs_it_stand_below_arguments_of_any_length() -> None:
    arguments = {"note": "x" * 5000, "path": "/"}
    view = asked(arguments=arguments, tool="ops_delete", provider="MCP server ops")
    lines = question_lines(view, 80)
    assert lines[0] == "? Run ops_delete (MCP server ops) with:"
    assert len(lines) > 60
    assert advice(view) == "Run ops_delete (MCP server ops)? y, or n and a reason"


def test_a_name_that_could_be_read_as_something_else_is_quoted() -> None:
    assert named("mcp_files.read-all") == "mcp_files.read-all"
    assert named("天气") == "天气"
    assert named("ls? y\n  Run rm") == r'"ls? y\n  Run rm"'
    assert named("ls\u3164") == r'"ls\u3164"'


def test_a_text_within_a_line_is_cut_and_says_so() -> None:
    assert inline("one\ntwo", 5) == "one t… (2 more characters)"
    assert inline("one\ntwo") == "one two"


def test_no_mark_is_a_letter() -> None:
    assert not any(mark.isalnum() or mark.isspace() for mark in MARKS)
