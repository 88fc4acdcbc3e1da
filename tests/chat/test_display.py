"""What is written of events."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from caesura.chat.display import Display, call_text, printable
from caesura.chat.records import ApprovalView, EventKind, SessionEvent


class Written:
    """A display, and what it wrote."""

    def __init__(self) -> None:
        self.answers, self.notes = StringIO(), StringIO()
        self.display = Display(Console(file=self.answers), Console(file=self.notes, width=60))
        self._number = 0

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
        "  weather: 50%, sky, about 2 s left",
        "← weather succeeded in 0.0 s",
        "  rain",
        "(cut: the longest output is reached)",
        "the session is over: failed (the engine is gone)",
    ]


def test_a_long_result_is_collapsed(written: Written) -> None:
    lines = "\n".join(f"line {number}" for number in range(40))
    written.show(EventKind.RESULT, call_id="c", name="read", ending="succeeded", content=lines)
    shown = written.notes.getvalue()
    assert "line 5" in shown
    assert "line 6" not in shown
    assert "34 more lines" in shown


def test_a_question_shows_all_that_is_decided_on(written: Written) -> None:
    command = "rm -r " + "x" * 2000
    asked = {"id": "a", "session_id": "s", "kind": "approval", "text": "", "tool": "shell"}
    fields = {**asked, "arguments": {"command": command}, "state": "waiting"}
    written.display.question(ApprovalView.model_validate(fields), "y, or n")
    assert command in written.notes.getvalue()


def test_nothing_that_is_shown_steers_the_terminal(written: Written) -> None:
    trick = "safe\x1b[2J\x1b]0;title\x07\u202egnp.exe\x9b31m\r\nnext"
    assert printable(trick) == "safe�[2J�]0;title��gnp.exe�31m\nnext"
    written.show(EventKind.TEXT, turn=1, text=trick)
    written.show(EventKind.RESULT, call_id="c", name=trick, ending="succeeded", content=trick)
    written.show(EventKind.CALL, call_id="c", turn=1, name=trick, arguments=trick)
    everything = written.answers.getvalue() + written.notes.getvalue()
    assert not set(everything) & set("\x1b\x07\x9b\r\u202e")
    assert "\x1b" not in call_text("shell", {"command": trick})


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
        "  waiting for look", "  the model has look", "! the model is told: no tool b"
    ]  # fmt: skip
