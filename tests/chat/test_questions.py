"""What somebody types becomes an answer, or is refused with advice."""

import pytest

from caesura.chat.questions import advice, read_answer
from caesura.chat.records import ApprovalView, GivenAnswer


def approval(kind: str, **fields: object) -> ApprovalView:
    return ApprovalView.model_validate(
        {
            "id": "a",
            "session_id": "s",
            "kind": kind,
            "text": "?",
            "tool": "t",
            "state": "waiting",
            **fields,
        }
    )


CALL = approval("approval")
CHOICE = approval("question", choices=["red", "blue"])
OPEN = approval("question")
DATA = approval("input", schema={"properties": {"age": {"type": "integer"}}})


@pytest.mark.parametrize(
    ("asked", "line", "answer"),
    [
        (CALL, "y", GivenAnswer(accepted=True)),
        (CALL, " YES ", GivenAnswer(accepted=True)),
        (CALL, "n", GivenAnswer(accepted=False)),
        (CALL, "no, not today", GivenAnswer(accepted=False, reason="not today")),
        (CALL, "/no", GivenAnswer(accepted=False)),
        (CHOICE, "2", GivenAnswer(accepted=True, text="blue")),
        (CHOICE, "red", GivenAnswer(accepted=True, text="red")),
        (CHOICE, "/no neither", GivenAnswer(accepted=False, reason="neither")),
        (OPEN, "2", GivenAnswer(accepted=True, text="2")),
        (OPEN, "no idea", GivenAnswer(accepted=True, text="no idea")),
        (DATA, '{"age": 7}', GivenAnswer(accepted=True, content={"age": 7})),
        (DATA, "/no none of yours", GivenAnswer(accepted=False, reason="none of yours")),
    ],
)
def test_a_line_answers(asked: ApprovalView, line: str, answer: GivenAnswer) -> None:
    assert read_answer(asked, line) == answer


@pytest.mark.parametrize(
    ("asked", "line", "message"),
    [
        (CALL, "yes but only once", "y, or n and a reason"),  # a condition is no consent
        (CALL, "maybe", "y, or n and a reason"),
        (CHOICE, "3", "a number from 1 to 2"),
        (CHOICE, "green", "a number from 1 to 2"),
        (DATA, "seven", "not JSON"),
    ],
)
def test_what_is_no_answer_is_refused(asked: ApprovalView, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_answer(asked, line)


def test_the_advice_says_what_is_wanted() -> None:
    assert advice(CALL) == "Run t? y, or n and a reason"
    assert advice(CHOICE) == "t: a number, or /no and a reason"
    assert advice(OPEN) == "t: your answer, or /no and a reason"
    assert advice(DATA) == 't: JSON such as {"age": integer}, or /no and a reason'
    of_a_server = approval("input", schema={"type": "integer"}, provider="MCP server notes")
    assert advice(of_a_server) == (
        "t (MCP server notes): JSON that fits the schema, or /no and a reason"
    )
    assert advice(approval("input")).startswith("t: any JSON")


def test_the_advice_is_one_line_whatever_a_schema_says() -> None:
    fields = {'x": 1}\n? Run "other': {"type": "integer\n"}, "\u202e": {}}
    assert advice(approval("input", schema={"properties": fields})) == (
        r't: JSON such as {"x\": 1}\n? Run \"other": any, "\u202e": any}, or /no and a reason'
    )
