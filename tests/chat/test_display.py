"""What is written of events."""

import re
from io import StringIO
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from caesura.chat.display import Display
from caesura.chat.page import Page
from caesura.chat.records import ApprovalView, EventKind, SessionEvent, SessionView


def terminal(file: StringIO) -> Console:
    return Console(file=file, force_terminal=True)


class Written:
    """A display, and what it wrote: to files, or to one terminal of a width."""

    def __init__(self, width: int | None = None, *, has_foot: bool = False) -> None:
        self.answers, self.notes = StringIO(), StringIO()
        if width is None:
            pages = Page(Console(file=self.answers)), Page(Console(file=self.notes))
        else:
            page = Page(terminal(self.answers), width=lambda: width, has_foot=has_foot)
            pages = page, page
        self.display = Display(*pages)
        self._number = 0

    @property
    def lines(self) -> list[str]:
        """Of the terminal, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.answers.getvalue()).splitlines()

    def show(self, kind: EventKind, **data: Any) -> None:
        self._number += 1
        self.display.show(SessionEvent(number=self._number, kind=kind, data=data))


@pytest.fixture
def written() -> Written:
    return Written()


def output(text: str, turn: int = 1, **data: Any) -> dict[str, Any]:
    return {"turn": turn, "text": text, "reasoning": "", "stop": "stop", **data}


def test_pieces_of_an_output_are_written_once(written: Written) -> None:
    for piece in ("It ", "rains", "."):
        written.show(EventKind.TEXT, turn=1, text=piece)
    written.show(EventKind.OUTPUT, **output("It rains."))
    assert written.answers.getvalue() == "It rains.\n"
    assert written.notes.getvalue() == ""


def test_pieces_that_were_lost_with_the_connection_come_with_the_whole(written: Written) -> None:
    written.show(EventKind.TEXT, turn=1, text="It ")
    written.show(EventKind.OUTPUT, **output("It rains."))
    written.show(EventKind.OUTPUT, **output("All of this was missed.", turn=2))
    assert written.answers.getvalue() == "It rains.\nAll of this was missed.\n"


def test_an_output_that_came_out_otherwise_is_written_whole(written: Written) -> None:
    written.show(EventKind.TEXT, turn=1, text="It sn")
    written.show(EventKind.OUTPUT, **output("It rains."))
    assert written.answers.getvalue() == "It sn\nIt rains.\n"


def test_only_what_the_model_says_goes_to_those_who_read_answers(written: Written) -> None:
    written.show(EventKind.REASONING, turn=1, text="Let me look.")
    written.show(EventKind.TEXT, turn=1, text="I look. ")
    written.show(EventKind.OUTPUT, **output("I look. ", reasoning="Let me look."))
    written.show(EventKind.CALL, call_id="c", turn=1, name="weather", arguments='{"city": "Ulm"}')
    written.show(EventKind.PROGRESS, call_id="c", fraction=0.5, remaining_seconds=2, message="sky")
    written.show(EventKind.PROGRESS, call_id="c", fraction=0.51, remaining_seconds=2, message="sky")
    written.show(EventKind.RESULT, call_id="c", name="weather", ending="succeeded", content="rain")
    written.show(EventKind.TEXT, turn=2, text="It rains.")
    written.show(EventKind.OUTPUT, **output("It rains.", turn=2, stop="length"))
    written.show(EventKind.ENDED, ending="failed", error="the engine is gone")
    assert written.answers.getvalue() == "I look. \nIt rains.\n"
    assert written.notes.getvalue().splitlines() == [
        "Let me look.",
        '→ weather {"city": "Ulm"}',
        "  weather: 50%, about 2 s left: sky",
        "← weather succeeded in 0.0 s",
        "│ rain",
        "(cut: the output limit is reached)",
        "the session has ended: failed: the engine is gone",
    ]


def test_a_long_result_is_collapsed(written: Written) -> None:
    lines = "\n".join(f"line {number}" for number in range(40))
    written.show(EventKind.RESULT, call_id="c", name="read", ending="succeeded", content=lines)
    shown = written.notes.getvalue()
    assert "line 5" in shown
    assert "line 6" not in shown
    assert "more characters (/transcript shows all)" in shown


def test_a_question_shows_all_that_is_decided_on(written: Written) -> None:
    command = "rm -r " + "x" * 2000
    asked = {"id": "a", "session_id": "s", "kind": "approval", "text": "", "tool": "shell"}
    fields = {**asked, "arguments": {"command": command}, "state": "waiting"}
    written.display.question(ApprovalView.model_validate(fields))
    assert command in written.notes.getvalue()


TRICK = "safe\x1b[2J\x1b]8;;http://evil\x1b\\\u202egnp.exe\x9b31m\rover\u2066[bold]:A:\ud83d"
REPLACED = "safe�[2J�]8;;http://evil�\\�gnp.exe�31m�over�[bold]:A:�"
ESCAPED = r"safe\u001b[2J\u001b]8;;http://evil\u001b\\u202egnp.exe\u009b31m\u000dover\u2066[bold]:A:\ud83d"
EVIL_ARGUMENTS = {TRICK: TRICK}


def approval(**fields: Any) -> ApprovalView:
    asked = {"id": "a", "session_id": "s", "text": "", "state": "waiting"}
    return ApprovalView.model_validate(asked | fields)


@pytest.mark.parametrize("width", [None, 1, 40])
def test_nothing_that_is_shown_steers_the_terminal(width: int | None) -> None:
    written = Written(width, has_foot=width == 40)
    names = "text reasoning role content name arguments ending error reason message call_id"
    everywhere = dict.fromkeys(names.split(), TRICK)
    told = [{"id": TRICK, "call_id": TRICK}, {"error": TRICK}]
    for kind in EventKind:
        more = {"call_ids": [TRICK], "interrupts": told, "fraction": 0.5}
        written.show(kind, turn=1, stop="length", **everywhere, **more)
    display = written.display
    display.error(TRICK)
    kinds = ({"kind": kind, "tool": TRICK, "text": TRICK} for kind in ("approval", "question"))
    asked = [approval(**one, arguments=EVIL_ARGUMENTS, choices=[TRICK]) for one in kinds]
    for one in asked:
        display.question(one)
    fields = {"id": TRICK, "phase": TRICK, "held": False, "output_text": TRICK}
    display.sessions([SessionView.model_validate(fields)], None)
    calls = [{"name": TRICK, "arguments": TRICK}]
    display.transcript(
        [
            {"role": "user", "content": [{"text": TRICK}]},
            {"role": "assistant", "content": TRICK, "calls": calls},
            {"role": "tool", "name": TRICK, "ending": TRICK, "content": TRICK},
            {"role": TRICK, "content": TRICK},
        ]
    )
    written.show(EventKind.TEXT, turn=2, text=TRICK)
    feet = [display.foot(asked[start:], answers=True) for start in (0, 1)]
    foot = "".join(text for parts in feet for _, text in parts)
    everything = written.answers.getvalue() + written.notes.getvalue()
    without_colours = re.sub(r"\x1b\[[0-9;]*m", "", everything)
    assert not set(without_colours + foot) & set("\x1b\x9b\r\u202e\u2066\ud83d")
    shown = "".join(without_colours.split())
    assert (shown.count(REPLACED) > 6 and shown.count(ESCAPED) > 4) or width is not None
    assert "[bold]:A:" in without_colours + foot or width == 1


def test_a_name_of_an_argument_cannot_be_read_as_another_call(written: Written) -> None:
    name = 'x": "/tmp"}\n  Run list?'
    written.display.question(approval(kind="approval", tool="delete", arguments={name: "/"}))
    assert written.notes.getvalue().splitlines() == [
        "? Run delete with:",
        "│ {",
        r'│   "x\": \"/tmp\"}\n  Run list?": "/"',
        "│ }",
        "  Run delete? y, or n and a reason",
    ]


def test_lines_of_a_question_are_marked(written: Written) -> None:
    asked = approval(kind="question", tool="ask", text="Which?\n? Run list with:", choices=["a\nb"])
    written.display.question(asked)
    assert written.notes.getvalue().splitlines()[:-1] == [
        "? ask asks:", "│ Which?", "│ ? Run list with:", "  1 │ a", "    │ b"
    ]  # fmt: skip


def test_an_open_question_stays_at_the_foot() -> None:
    written = Written(40, has_foot=True)
    long = approval(kind="approval", tool="shell", arguments={"command": "rm -r " + "x " * 400})
    short = approval(kind="question", tool="ask", text="Which?", choices=["red", "blue"])
    written.display.question(long)
    assert "".join(written.lines).count("x") == 400  # in full, once
    parts = written.display.foot([long, short], answers=True)
    lines = "".join(text for _, text in parts).splitlines()
    assert lines[0].rstrip() == "? Run shell with:"
    assert lines[2].startswith('│   "command": "rm -r x')
    assert all(cell_len(line.rstrip()) <= 40 for line in lines)
    assert len(lines) < 14
    told = " ".join(" ".join(lines).split())
    assert "Run shell? y, or n and a reason; question 1 of 2; " in told
    assert "more characters: Enter shows them" in told
    assert lines[-1] == "? "
    parts = written.display.foot([short], answers=False)
    assert [line.rstrip() for line in "".join(text for _, text in parts).splitlines()] == [
        "? ask asks:",
        "│ Which?",
        "  1 │ red",
        "  2 │ blue",
        "  ask: a number, or /no and a reason",
        "›",
    ]


def test_a_line_that_goes_on_stays_at_the_foot_and_notes_do_not_break_it() -> None:
    written = Written(30, has_foot=True)
    for piece in ("Plea", "sed to he", "lp you with that, and mo"):
        written.show(EventKind.TEXT, turn=1, text=piece)
    written.show(EventKind.RESULT, call_id="c", name="look", ending="succeeded", content="7")
    assert written.lines == ["Pleased to help you with that,", "← look succeeded in 0.0 s", "│ 7"]
    assert written.display.foot([], answers=False) == [("", "and mo \n"), ("", "› ")]
    written.show(EventKind.TEXT, turn=1, text="re.")
    written.show(EventKind.OUTPUT, **output("Pleased to help you with that, and more."))
    assert written.lines[-1] == "and more."
    assert written.display.foot([], answers=False) == [("", "› ")]


def test_without_a_foot_words_are_written_when_it_is_clear_where_they_stand() -> None:
    written = Written(30)
    seen = []
    for piece in ("Plea", "sed to he", "lp you with that, and mo", "re."):
        written.show(EventKind.TEXT, turn=1, text=piece)
        seen.append(written.answers.getvalue())
    assert seen == ["", "Pleased to ", first := "Pleased to help you with that,\nand ", first]
    written.show(EventKind.RESULT, call_id="c", name="look", ending="succeeded")
    assert written.lines[1:] == ["and more.", "← look succeeded in 0.0 s"]


def test_sessions_are_listed_at_any_width() -> None:
    fields = {"id": "sess_" + "0" * 32, "phase": "idle", "held": False}
    listed = [SessionView.model_validate(fields | {"output_text": "It rains in Ulm\n" * 9})]
    for width in (60, 100, 200):
        written = Written(width)
        written.display.sessions(listed, listed[0].id)
        head, said = written.lines
        assert head.startswith(f"* {listed[0].id}  ")
        assert width - 10 < len(said) <= width or len(said) == 4 + 9 * 16 - 1
        assert set(said.replace("…", "").split()) == {"It", "rains", "in", "Ulm"}


def test_what_is_copied_is_not_broken() -> None:
    written = Written(30)
    written.display.note("come back with: caesura chat --session sess_0123", rest=None)
    assert written.lines == ["come back with: caesura chat --session sess_0123"]


def test_markup_of_the_display_in_a_text_is_text(written: Written) -> None:
    written.display.note("[bold]not bold[/bold] :smile:")
    assert written.notes.getvalue() == "[bold]not bold[/bold] :smile:\n"


def test_spaces_of_an_answer_are_kept(written: Written) -> None:
    for piece in ("x" * 100 + "   ", "\n\n", "\tindented  "):
        written.show(EventKind.TEXT, turn=1, text=piece)
    written.show(EventKind.OUTPUT, **output("x" * 100 + "   \n\n\tindented  "))
    assert written.answers.getvalue() == "x" * 100 + "   \n\n\tindented  \n"


def test_an_answer_with_calls_in_it_is_one_text(written: Written) -> None:
    written.show(EventKind.OUTPUT, **output("I look ", stop="frame", continues=True))
    written.show(EventKind.CALL, call_id="c", turn=1, name="look", arguments="{}")
    written.show(EventKind.OUTPUT, **output("both up", 2, stop="frame", continues=True))
    written.show(EventKind.TRAPPED, turn=2, call_ids=["c"])
    told = [{"id": "a", "call_id": "c"}, {"id": "b", "call_id": None, "error": "no tool b"}]
    written.show(EventKind.INJECTED, turn=2, position=9, interrupts=told)
    written.show(EventKind.OUTPUT, **output(": 7.", 3))
    assert written.answers.getvalue() == "I look both up: 7.\n"
    notes = written.notes.getvalue().splitlines()
    assert notes[1:] == [
        "  waiting for look",
        "  the model receives the result of look",
        "! the model is told: no tool b",
    ]


@pytest.mark.parametrize("has_foot", [False, True])
def test_no_text_looks_like_a_line_of_the_chat(has_foot: bool) -> None:
    written = Written(40, has_foot=has_foot)
    trick = "? Run rm with:\n│ {}\n→ rm {}\n← rm succeeded\n› y\n! no"
    for piece in (trick[:1], trick[1:20], trick[20:]):
        written.show(EventKind.TEXT, turn=1, text=piece)
    written.show(EventKind.OUTPUT, **output(trick))
    assert written.lines == [f" {line}" for line in trick.split("\n")]
    written.show(EventKind.RESULT, call_id="c", name="x", ending="succeeded", content=trick)
    written.show(EventKind.CALL, call_id="d", turn=1, name="x", arguments="{\n" + trick * 3)
    written.show(EventKind.PROGRESS, call_id="d", fraction=0.5, message=trick)
    written.show(EventKind.ENDED, ending="failed", error=trick)
    written.display.error(trick)
    written.display.message("user", trick)
    written.display.message(trick, trick)
    ours = [line for line in written.lines[6:] if not line.startswith(("│", "┆"))]
    assert [line[:14] for line in ours] == [
        "← x succeeded ",
        "→ x",
        "  x: 50%:",
        "the session ha",
        "!",
        "› ? Run rm wit",
        "›",
    ]
