"""What the generator of tasks over JSON schemas makes: valid CML, rightly masked, as asked for."""

import random
from itertools import pairwise

import pytest

from caesura.cml import (
    MARKERS,
    USER_ID,
    Call,
    End,
    GoOn,
    Inject,
    Interrupt,
    Mode,
    Monitor,
    MonitorSettings,
    Point,
    ProtocolError,
    Situation,
    Trap,
    next_step,
)
from caesura.lab.train.tasks import Failure
from caesura.lab.train.tuning.base import Base
from caesura.lab.train.tuning.hugging_face_codec import HuggingFaceCodec
from caesura.lab.train.wide.draw import (
    CATEGORIES,
    GraphTasks,
    possible_categories,
)
from caesura.lab.train.wide.judge import judge
from caesura.lab.train.wide.sessions import WideSession, written
from caesura.lab.train.wide.sources import MadeUpTools, OwnTools
from caesura.lab.train.wide.tasks import GraphTask
from caesura.lab.train.wide.tools import tool_of
from support.cml.transcript import read_transcript

SEED = 20261122
EACH = pytest.mark.parametrize(
    ("category", "mode"), [(category, mode) for category in CATEGORIES for mode in Mode]
)
CASES = 6


def tasks(category: str, *, held_out: bool = False, count: int = 40) -> list[GraphTask]:
    source = random.Random(f"{SEED} {category} {held_out}")
    drawn = GraphTasks(MadeUpTools(), source, held_out)
    return [drawn.draw(category) for _ in range(count)]


def sessions(
    codec: HuggingFaceCodec, category: str, mode: Mode
) -> list[tuple[GraphTask, WideSession]]:
    source = random.Random(f"{SEED} {category} {mode}")
    return [(task, written(task, mode, codec, source)) for task in tasks(category, count=CASES)]


@EACH
def test_sessions_are_valid_cml_and_a_success(tiny: Base, category: str, mode: Mode) -> None:
    for task, session in sessions(tiny.codec, category, mode):
        assert judge(task, session.simulation).mistakes == ()
        assert judge(task, session.simulation).longest_first
        tokens = session.simulation.tokens[len(session.before) : -1]
        pieces = read_transcript(tiny.codec.decode(tokens), MARKERS)
        assert [piece for piece in pieces if isinstance(piece, Call)] == session.simulation.calls
        injected = [piece for piece in pieces if isinstance(piece, Interrupt)]
        assert injected == session.simulation.injected
        assert all(piece.id == USER_ID or piece.id[0].islower() for piece in injected)
        if mode is Mode.SYNC:
            assert not any(isinstance(piece, Trap) for piece in pieces)


@EACH
def test_the_loss_covers_what_the_model_writes_and_nothing_else(
    tiny: Base, category: str, mode: Mode
) -> None:
    codec = tiny.codec
    for _, session in sessions(codec, category, mode):
        sample = session.sample
        before = len(session.before)
        assert sample.written[:before] == list(session.before)
        expected = codec.decode(sample.tokens[before:])
        for interrupt in session.simulation.injected:
            expected = expected.replace(codec.decode(codec.encode([interrupt])), "", 1)
        turn = zip(sample.tokens[before:], sample.written[before:], strict=True)
        assert codec.decode([token for token, covered in turn if covered]) == expected
        assert "[INTR]" not in expected
        assert expected.endswith("<|end|>")


def test_the_loss_covers_the_turn_before_but_not_the_prompt_between(tiny: Base) -> None:
    for task, session in sessions(tiny.codec, "follow_up", Mode.ASYNC):
        assert task.earlier is not None
        turns = zip(session.simulation.tokens, session.before, strict=False)
        covered = tiny.codec.decode([token for token, is_covered in turns if is_covered])
        assert covered.startswith("[CALL]a[HEAD]")
        assert covered.count("<|end|>") == 1
        assert task.question not in covered
        assert "[INTR]" not in covered
        uncovered = tiny.codec.decode(session.simulation.tokens[: len(session.before)])
        assert uncovered.endswith(f"{task.question}<|end|>\n<|start|>assistant\n")


@EACH
def test_interrupts_stand_where_the_runtime_injects_them(
    tiny: Base, category: str, mode: Mode
) -> None:
    """Replays each token against `next_step`, by a monitor of its own."""
    codec = tiny.codec
    for _, session in sessions(codec, category, mode):
        simulation = session.simulation
        monitor = Monitor(
            MonitorSettings(),
            codec.symbols,
            codec.decoder(),
            session.used_ids,
        )
        point, pending = Point.WRITING, set[str]()
        queue = list(simulation.injected)
        tokens, wrote = simulation.tokens, simulation.written
        index = len(session.before)
        while index < len(tokens):
            if not wrote[index]:
                arrived: list[Interrupt] = []
                start = index
                while index < len(tokens) and not wrote[index]:
                    index += 1
                while len(codec.encode(arrived)) < index - start:
                    arrived.append(queue.pop(0))
                assert codec.encode(arrived) == tokens[start:index]
                pending -= {interrupt.id for interrupt in arrived}
                assert not monitor.injected()
                situation = Situation(point, frozenset(pending), True, monitor.in_critical_section)
                assert next_step(mode, situation) == Inject()
                point = Point.WRITING
                continue
            situation = Situation(point, frozenset(pending), False, monitor.in_critical_section)
            assert next_step(mode, situation) == GoOn()
            ends = index + 1 == len(tokens)
            events = monitor.end_of_stream() if ends else monitor.feed([tokens[index]])
            for event in events:
                assert not isinstance(event, ProtocolError)
                point = point.after(event)
                if isinstance(event, Call):
                    pending.add(event.id)
            index += 1
        assert not queue
        assert next_step(mode, Situation(point, frozenset(pending))) == End()


def test_interrupts_land_in_the_middle_of_sentences_but_never_of_words(tiny: Base) -> None:
    codec = tiny.codec
    inside = 0
    for category in ("parallel", "meanwhile", "chain"):
        for _, session in sessions(codec, category, Mode.ASYNC):
            tokens, wrote = session.simulation.tokens, session.simulation.written
            start = len(session.before)
            for index in range(start + 1, len(tokens)):
                if wrote[index] and not wrote[index - 1]:
                    assert tokens[index] in codec.safe_tokens
                    before = index - 1
                    while not wrote[before] and before > start:
                        before -= 1
                    inside += codec.texts[tokens[before]] not in (".", "[END]")
    assert inside > 0


def test_the_same_seed_gives_the_same_session(tiny: Base) -> None:
    for category in CATEGORIES:
        first, second = (sessions(tiny.codec, category, Mode.ASYNC) for _ in range(2))
        assert [s.sample for _, s in first] == [s.sample for _, s in second]


def test_tools_questions_and_failures_are_on_one_side_of_the_hold_out() -> None:
    for category in CATEGORIES:
        seen, held_out = tasks(category), tasks(category, held_out=True)
        assert not _topics(seen) & _topics(held_out)
        assert not {task.question for task in seen} & {task.question for task in held_out}
        assert not _texts(seen) & _texts(held_out)
        assert not _messages(seen) & _messages(held_out)


def test_calls_take_what_others_give() -> None:
    shapes = set()
    for category in ("chain", "graph"):
        for task in tasks(category, count=100):
            for call in task.calls:
                for given in call.inputs:
                    result = task.calls[given.parent].result
                    if given.member is not None:
                        assert isinstance(result, dict)
                        result = result[given.member]
                    assert call.arguments[given.parameter] == result
                    shapes.add(("member" if given.member else "whole", len(call.parents)))
            children = [parent for call in task.calls for parent in call.parents]
            if len(set(children)) < len(children):
                shapes.add(("fork", 1))
    assert shapes >= {("whole", 1), ("member", 1), ("whole", 2), ("fork", 1)}


def test_all_that_a_call_needs_is_said_or_given() -> None:
    for category in set(CATEGORIES) - {"no_call"}:
        for task in tasks(category):
            said = task.question + (task.steering or "")
            for call in task.calls:
                given = {made.parameter for made in call.inputs}
                for name, value in call.arguments.items():
                    if isinstance(value, str) and name not in given and call.is_asked:
                        assert value in said


def test_prompts_list_the_longest_tool_first_with_its_duration(tiny: Base) -> None:
    for task in tasks("parallel"):
        seconds = [tool.expected_seconds or 0 for tool in task.tools]
        assert seconds == sorted(seconds, reverse=True)
        prompt = tiny.codec.decode(tiny.codec.prompt_of(task.question, task.tools, Mode.ASYNC))
        places = [prompt.index(f"\n- {tool.name}: ") for tool in task.tools]
        assert all(first < second for first, second in pairwise(places))
        for tool in task.tools:
            if tool.expected_seconds:
                assert f"Takes about {tool.expected_seconds:g} s." in prompt


def test_a_wrong_value_or_a_call_too_much_is_no_success(tiny: Base) -> None:
    source = random.Random(SEED)
    [task] = tasks("single", count=1)
    session = written(task, Mode.SYNC, tiny.codec, source)
    simulation = session.simulation
    simulation.text = simulation.text.replace(task.calls[0].sentence, "It is 12.")
    assert judge(task, simulation).mistakes == (f"not told: {task.calls[0].sentence}",)
    simulation.calls.append(Call("x", "other"))
    assert "call too much: other {}" in judge(task, simulation).mistakes
    simulation.is_over = False
    assert "it did not end" in judge(task, simulation).mistakes


def test_failed_calls_are_made_again_once(tiny: Base) -> None:
    final = 0
    for task in tasks("error"):
        [failing] = [call for call in task.calls if call.failures]
        final += not failing.succeeds
        session = written(task, Mode.ASYNC, tiny.codec, random.Random(1))
        made = [c for c in session.simulation.calls if c.arguments == failing.arguments]
        assert len([c for c in made if c.name == failing.tool]) == 2
        assert len({call.id for call in session.simulation.calls}) == len(session.simulation.calls)
    assert 0 < final < 40


def test_own_tools_are_called_and_no_others(tiny: Base) -> None:
    item = {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}
    own = OwnTools(
        [
            tool_of({"name": "owner", "parameters": item, "expected_seconds": 0.7}),
            tool_of({"name": "price", "parameters": item}),
            tool_of({"name": "today"}),
        ]
    )
    assert possible_categories(own) == CATEGORIES
    for category in CATEGORIES:
        task = GraphTasks(own, random.Random(SEED)).draw(category)
        assert {call.tool for call in task.calls} <= {"owner", "price", "today"}
        session = written(task, Mode.ASYNC, tiny.codec, random.Random(2))
        assert judge(task, session.simulation).succeeded


def test_categories_that_the_tools_do_not_admit_are_left_out() -> None:
    found = possible_categories(OwnTools([tool_of({"name": "today"})]))
    assert "single" in found
    assert not {"same_tool", "chain", "graph", "parallel"} & set(found)


def _topics(drawn: list[GraphTask]) -> set[str]:
    return {tool.topic for task in drawn for tool in task.tools}


def _texts(drawn: list[GraphTask]) -> set[str]:
    """Values without a structure of their own: dates and enumerations are on both sides."""
    return {
        value
        for task in drawn
        for call in task.calls
        for name, value in call.arguments.items()
        if isinstance(value, str)
        and name not in ("unit", "language", "day")
        and not value.startswith("20")
    }


def _messages(drawn: list[GraphTask]) -> set[str]:
    return {
        failure.message
        for task in drawn
        for call in task.calls
        for failure in call.failures
        if isinstance(failure, Failure)
    }
