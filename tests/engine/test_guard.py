"""What fails beside the engine's work does not end it."""

import pytest

from caesura.engine.guard import Aside, Guard


def test_failures_are_counted_and_logged_once_per_kind(caplog: pytest.LogCaptureFixture) -> None:
    counted: list[Aside] = []
    guard = Guard(counted.append)
    for kind in (Aside.NAMES, Aside.NAMES, Aside.TRACE):
        with guard(kind):
            raise ValueError("no name")
    assert counted == [Aside.NAMES, Aside.NAMES, Aside.TRACE]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "no name" in caplog.text, "with its traceback"


def test_work_that_fails_has_another_result() -> None:
    counted: list[Aside] = []
    divide = Guard(counted.append).wrap(Aside.STATISTICS, lambda n: 10 // n, -1)
    assert [divide(5), divide(0)] == [2, -1]
    assert counted == [Aside.STATISTICS]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_to_end_the_process_does(error: type[BaseException]) -> None:
    with pytest.raises(error), Guard(lambda kind: None)(Aside.NAMES):
        raise error
