"""Simulated sessions as the oracle writes them: what training sees."""

import random
from itertools import pairwise

import pytest

from caesura.cml import MARKERS, Call, Interrupt, Marker, Mode, Piece, Text, Trap
from caesura.lab.train.demo_tasks import CATEGORIES, FURTHER_CATEGORIES, TaskSource
from caesura.lab.train.demo_tokenizer import DemoCodec
from caesura.lab.train.judge import judge
from caesura.lab.train.oracle import Oracle
from caesura.lab.train.render import Sample, opening_of, sample_of, simulation_of
from support.cml.transcript import read_transcript
from support.draws import examples, seed

pytestmark = pytest.mark.fuzz

CODEC = DemoCodec()
DRAWN = (*CATEGORIES, *FURTHER_CATEGORIES)
CASES = [(category, mode) for category in DRAWN for mode in Mode]
COUNT = examples(25)


def samples(category: str, mode: Mode, count: int = COUNT) -> list[Sample]:
    source = random.Random(f"{seed()} {category} {mode}")
    tasks = TaskSource(source)
    return [sample_of(tasks.draw(category), mode, CODEC, source) for _ in range(count)]


def turns_of(sample: Sample) -> list[list[Piece]]:
    """What stands behind each prompt, as pieces."""
    headers = {CODEC.prompt("", mode)[-1] for mode in Mode}
    turns: list[list[int]] = []
    is_open = False
    for token in sample.tokens:
        if token == CODEC.eos:
            is_open = False
        elif token in headers:
            turns.append([])
            is_open = True
        elif is_open:
            turns[-1].append(token)
    return [read_transcript(CODEC.decode(turn), MARKERS) for turn in turns]


@pytest.mark.parametrize(("category", "mode"), CASES)
def test_a_transcript_is_cml_in_which_each_call_is_answered_once(category: str, mode: Mode) -> None:
    for sample in samples(category, mode):
        assert len(sample.tokens) == len(sample.written)
        assert sample.tokens[-1] == CODEC.eos
        pending: set[str] = set()
        used: set[str] = set()
        for piece in [piece for turn in turns_of(sample) for piece in turn]:
            if isinstance(piece, Call):
                assert piece.id not in used
                used.add(piece.id)
                pending.add(piece.id)
            elif isinstance(piece, Interrupt) and piece.id != "user":
                pending.remove(piece.id)
            elif isinstance(piece, Trap):
                assert pending
        assert not pending


@pytest.mark.parametrize(("category", "mode"), CASES)
def test_the_loss_covers_what_the_model_writes_and_nothing_else(category: str, mode: Mode) -> None:
    head_of_turn = {CODEC.prompt("", m)[-1] for m in Mode}
    for sample in samples(category, mode):
        in_interrupt, in_answer = False, False
        for token, written in zip(sample.tokens, sample.written, strict=True):
            if token == CODEC.symbols[Marker.INTR]:
                in_interrupt = True
            injected = in_interrupt
            if in_interrupt and token == CODEC.symbols[Marker.END]:
                in_interrupt = False
            if written:
                assert in_answer
                assert not injected
            if token in head_of_turn:
                in_answer = True
            elif token == CODEC.eos:
                in_answer = False
        assert sample.written[-1]


@pytest.mark.parametrize("category", DRAWN)
def test_in_sync_mode_each_call_is_followed_by_its_result(category: str) -> None:
    for sample in samples(category, Mode.SYNC):
        for turn in turns_of(sample):
            for piece, following in pairwise(turn):
                if isinstance(piece, Call):
                    assert isinstance(following, Interrupt)
                assert not isinstance(piece, Trap)


@pytest.mark.parametrize("category", DRAWN)
def test_in_sync_parallel_mode_a_bundle_ends_with_a_trap(category: str) -> None:
    for sample in samples(category, Mode.SYNC_PARALLEL):
        for turn in turns_of(sample):
            for piece, following in pairwise(turn):
                if isinstance(piece, Call):
                    assert isinstance(following, Call | Trap)


def test_in_async_mode_results_land_everywhere() -> None:
    before: set[str] = set()
    for sample in samples("parallel", Mode.ASYNC, count=300):
        for turn in turns_of(sample):
            for piece, following in pairwise(turn):
                if isinstance(following, Interrupt):
                    before.add(type(piece).__name__)
                    if isinstance(piece, Text) and not piece.text.endswith("."):
                        before.add("cut sentence")
    assert before == {"Call", "Interrupt", "Text", "Trap", "cut sentence"}


@pytest.mark.parametrize(("category", "mode"), CASES)
def test_the_judge_calls_what_the_oracle_writes_a_success(category: str, mode: Mode) -> None:
    source = random.Random(f"judge {seed()} {category} {mode}")
    tasks = TaskSource(source, held_out=True)
    for _ in range(COUNT):
        task = tasks.draw(category)
        opening = opening_of(task, mode, CODEC, source)
        simulation = simulation_of(task, mode, CODEC, source, opening)
        Oracle(task, mode, CODEC, opening.used_ids).write(simulation)
        verdict = judge(task, simulation)
        assert verdict.succeeded, verdict.mistakes
        assert verdict.longest_first


def written_by_hand(text: str) -> tuple[str, ...]:
    """The judge's objections to a session of one call in sync mode."""
    source = random.Random(7)
    tasks = TaskSource(source)
    task = next(
        task
        for task in iter(lambda: tasks.draw("single"), None)
        if task is not None and task.calls[0].tool == "price"
    )
    simulation = simulation_of(task, Mode.SYNC, CODEC, source)
    call, result = task.calls[0], task.calls[0].outcomes[0]
    written = text.format(call="CALL", result=result)
    first, _, rest = written.partition("CALL")
    tokens = CODEC.tokenize(first)
    if "CALL" in written:
        tokens += CODEC.encode([Call("price1", call.tool, {call.parameter: call.argument})])
    for token in [*tokens, *CODEC.tokenize(rest), CODEC.eos]:
        simulation.offer(token)
    return judge(task, simulation).mistakes


def test_the_judge_sees_wrong_and_missing_lines_and_calls() -> None:
    assert written_by_hand("{call} price1: {result}.") == ()
    assert [m.split(":")[0] for m in written_by_hand("{call} price1: 0000.")] == [
        "not told",
        "wrongly told",
    ]
    assert [m.split(":")[0] for m in written_by_hand("{call}")] == ["not told"]
    assert [m.split(":")[0] for m in written_by_hand("{call} price1: {result}. price1: 1.")] == [
        "wrongly told"
    ]
    assert [m.split(":")[0] for m in written_by_hand("No.")] == ["call missing", "not told"]
