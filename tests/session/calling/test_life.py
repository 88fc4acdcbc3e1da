"""What limits and failures make of a calling session."""

import pytest

from caesura.session import ContextFull, EngineFailed
from caesura.session.calling.life import Failed, Limited, Prompted, Stage, after

FULL, FAILURE = ContextFull("no room"), EngineFailed("it burns")
SPENT = Limited("no tokens left")


@pytest.mark.parametrize("life", [Stage.GOING, Stage.WAITING, Prompted([1])])
def test_a_turn_under_way_is_limited_or_fails(life) -> None:
    assert after(life, SPENT) is SPENT
    assert after(life, FULL) == Limited("no room", does_not_fit=True)
    assert after(life, FAILURE) == Failed(FAILURE)


@pytest.mark.parametrize("life", [Stage.ENDED, Stage.CLOSED])
def test_what_is_over_stays_over(life) -> None:
    assert after(life, SPENT) is life
    assert after(life, FULL) is life
    assert after(life, FAILURE) is life


def test_the_first_limit_counts_and_a_failure_counts_more() -> None:
    assert after(SPENT, FULL) is SPENT
    failed = after(SPENT, FAILURE)
    assert failed == Failed(FAILURE)
    assert after(failed, SPENT) is failed
    assert after(failed, ValueError("later")) is failed
