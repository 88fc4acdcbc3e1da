from caesura.cml import (
    Call,
    ErrorKind,
    ProtocolError,
    Rules,
    Text,
    Trap,
    Violation,
    ViolationKind,
)

MISTAKE = ProtocolError(ErrorKind.MALFORMED_JSON, "The body is not valid JSON.")


def test_the_first_trap_with_nothing_pending_is_told_and_the_second_ends_the_session() -> None:
    rules = Rules()
    told = rules.judge(Trap(), awaits=False)
    assert isinstance(told, ProtocolError)
    assert told.kind is ErrorKind.NOTHING_PENDING
    assert told.interrupt.id == "error"
    assert rules.judge(Text("I see."), awaits=False) is None
    assert rules.judge(Call("a1", "f"), awaits=True) is None
    over = rules.judge(Trap(), awaits=False)
    assert isinstance(over, Violation)
    assert over.kind is ViolationKind.TRAPPED_FOR_EVER


def test_a_trap_that_something_ends_is_no_mistake() -> None:
    rules = Rules()
    assert [rules.judge(Trap(), awaits=True) for _ in range(5)] == [None] * 5


def test_mistakes_in_a_row_end_the_session_at_last() -> None:
    rules = Rules(mistakes_in_a_row=2)
    assert [rules.judge(MISTAKE, awaits=False) for _ in range(2)] == [None, None]
    over = rules.judge(MISTAKE, awaits=False)
    assert isinstance(over, Violation)
    assert over.kind is ViolationKind.ONLY_MISTAKES
    assert MISTAKE.message in over.message


def test_a_valid_call_between_mistakes_starts_the_count_again() -> None:
    rules = Rules(mistakes_in_a_row=2)
    for number in range(5):
        assert rules.judge(MISTAKE, awaits=False) is None
        assert rules.judge(Text("Sorry."), awaits=False) is None
        assert rules.judge(MISTAKE, awaits=False) is None
        assert rules.judge(Call(f"a{number}", "f"), awaits=True) is None
