"""Steps under way: in which order they end, and when each began."""

from caesura.engine.pauses.steps import Steps


def test_a_step_that_was_scheduled_when_none_was_under_way_begins_at_once() -> None:
    steps = Steps()
    steps.schedule(1, 10.0)
    assert steps.end(steps.take(), 12.0) == 10.0
    steps.schedule(2, 15.0)
    assert steps.end(steps.take(), 17.0) == 15.0
    assert steps.taken == 2


def test_a_step_begins_when_the_one_before_it_ends() -> None:
    steps = Steps()
    steps.schedule(1, 10.0)
    steps.schedule(2, 11.0)
    assert steps.end(steps.take(), 14.0) == 10.0
    assert steps.taken == 1
    assert steps.end(steps.take(), 16.0) == 14.0
