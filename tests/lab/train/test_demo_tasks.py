import random

import pytest

from caesura.bundled.demo_tools import (
    CHAIN_END,
    CHAIN_STARTS,
    TOOL_BY_NAME,
    TOOLS,
    Kind,
    draw_value,
)
from caesura.lab.train import demo_phrases as phrases
from caesura.lab.train.demo_tasks import CATEGORIES, FURTHER_CATEGORIES, TaskSource
from caesura.lab.train.held_out import is_held_out, side
from caesura.lab.train.tasks import Failure, Task

SEED = 20261122
DRAWN = (*CATEGORIES, *FURTHER_CATEGORIES)


def tasks(category: str, *, held_out: bool = False, count: int = 100) -> list[Task]:
    source = TaskSource(random.Random(f"{SEED} {category} {held_out}"), held_out)
    return [source.draw(category) for _ in range(count)]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.STATUS])
def test_no_value_is_on_both_sides_of_the_hold_out(kind: Kind) -> None:
    source = random.Random(SEED)
    seen = {draw_value(kind, source, side(False)) for _ in range(300)}
    held_out = {draw_value(kind, source, side(True)) for _ in range(300)}
    assert not seen & held_out
    assert all(map(is_held_out, held_out))
    assert not any(map(is_held_out, seen))


def test_repeats_are_made_when_asked_for() -> None:
    source = random.Random(SEED)
    values = [draw_value(Kind.ORDER, source, side(False), repeats=1.0) for _ in range(50)]
    assert all(value[:2] == value[2:4] for value in values)


@pytest.mark.parametrize("category", DRAWN)
def test_no_question_is_on_both_sides_of_the_hold_out(category: str) -> None:
    seen = {task.question for task in tasks(category)}
    held_out = {task.question for task in tasks(category, held_out=True)}
    assert len(seen) > 90
    assert not seen & held_out
    closers = [closer for closer in phrases.HELD_OUT_CLOSERS if closer]
    openers = [opener for opener, _ in phrases.HELD_OUT_OPENERS]
    for question in seen:
        assert not question.endswith(tuple(closers))
        assert not question.startswith(tuple(openers))


@pytest.mark.parametrize("category", DRAWN)
def test_all_that_a_task_needs_is_said(category: str) -> None:
    for task in tasks(category):
        said = task.question + (task.steering or "")
        for call in task.calls:
            if call.parent is None:
                assert call.argument in said
            else:
                parent = task.calls[call.parent]
                assert call.argument == parent.outcomes[-1]
                assert call.argument not in said


@pytest.mark.parametrize("category", DRAWN)
def test_calls_are_longest_first(category: str) -> None:
    for task in tasks(category):
        durations = [c.expected_seconds for c in task.calls if c.parent is None and not c.steering]
        assert durations == sorted(durations, reverse=True)


@pytest.mark.parametrize("category", DRAWN)
def test_no_task_can_be_taken_for_a_chain(category: str) -> None:
    for task in tasks(category):
        names = {call.tool for call in task.calls}
        if CHAIN_END in names and not names.isdisjoint(CHAIN_STARTS):
            assert any(call.parent is not None for call in task.calls)


def test_errors_have_one_call_that_fails_once_or_twice() -> None:
    endings = set()
    for task in tasks("error"):
        (failing,) = [c for c in task.calls if isinstance(c.outcomes[0], Failure)]
        assert len(failing.outcomes) == 2
        endings.add(failing.succeeds)
    assert endings == {True, False}


def test_what_waits_for_a_call_that_fails_for_good_is_not_needed() -> None:
    for task in tasks("error", count=300):
        for call in task.calls:
            assert call.parent is None or task.calls[call.parent].succeeds


def test_an_unknown_category_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="single"):
        TaskSource(random.Random(SEED)).draw("singel")


def test_heads_and_tails_make_json() -> None:
    tool = TOOL_BY_NAME["price"]
    assert tool.head == '{"name": "price", "arguments": {"item": "'
    assert [t.expected_seconds for t in TOOLS] == sorted(
        (t.expected_seconds for t in TOOLS), reverse=True
    )
