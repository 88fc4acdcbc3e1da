"""Frames where a step gives several tokens: those behind the end of a turn were never there."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st
from vllm.config import ModelConfig
from vllm.v1.request import Request

from caesura.cml import CallStop
from caesura.engine.model.frames import SessionFrames, TokenTexts, TurnEnd
from caesura.engine.serving.launch import Engine
from caesura.engine.serving.token_engines import to_vllm
from caesura.session import Sampling
from engine.model.frame_scenarios import (
    FramedPlan,
    Teacher,
    broken_promises,
    framed_scenarios,
    play_framed,
)
from support.draws import examples
from support.engines.real import EngineLoop, chaotic_settings, running
from support.models.framed import CALL, END, HEAD, TRAP, FramedModel, framed_rules

pytestmark = pytest.mark.engine

SPECULATION = {
    "method": "ngram",
    "num_speculative_tokens": 4,
    "prompt_lookup_min": 1,
    "prompt_lookup_max": 3,
}
# Sessions that write many frames, and sessions that are interrupted in the middle of them.
WRITERS, INTERRUPTED = (
    [
        FramedPlan(
            calls=calls,
            at_words=False,
            prompt=prompt,
            turns=6,
            max_tokens=60,
            interrupts=interrupts,
            interrupt_seconds=(),
            pause_seconds=0.0,
            start_seconds=0.0,
            leave_at=None,
        )
        for calls in CallStop
        for prompt in (20, 60)
    ]
    for interrupts in ({}, {5: 1, 15: 1, 25: 1})
)
marked_tokens = st.lists(
    st.sampled_from([CALL, HEAD, END, TRAP, END, 400, 401, 500]), min_size=1, max_size=20
)


@pytest.fixture(scope="module")
def engine(engine_loop: EngineLoop, framed_model: FramedModel) -> Iterator[Engine]:
    settings = chaotic_settings(framed_model.path)
    overrides = {"speculative_config": SPECULATION}
    with running(engine_loop, replace(settings, overrides=overrides)) as engine:
        yield engine


def test_random_framed_sessions_write_what_they_would_without_speculation(
    engine: Engine, engine_loop: EngineLoop, teacher: Teacher, framed_model: FramedModel
) -> None:
    token_texts = TokenTexts(engine.llm.model_config)
    totals: Counter[str] = Counter()

    @example(plans=WRITERS, tokens_seed=0)
    @example(plans=INTERRUPTED, tokens_seed=0)
    @settings(max_examples=examples(6), suppress_health_check=list(HealthCheck))
    @given(plans=framed_scenarios, tokens_seed=st.integers(0, 10_000))
    def play(plans: list[FramedPlan], tokens_seed: int) -> None:
        for record in engine_loop.run(play_framed(engine, plans, tokens_seed)):
            for turn in record.turns:
                at_once = "at once" if turn.most_at_once > 1 else "one by one"
                totals[f"{turn.stop} {at_once}"] += 1
            note(f"{len(record.transcript)} tokens, turns: {record.turns}")
            assert not broken_promises(record, teacher, token_texts, framed_model.ends)

    play()
    assert totals["interrupted at once"], totals
    assert totals["frame at once"], totals


@pytest.fixture(scope="module")
def token_texts(framed_model: FramedModel) -> TokenTexts:
    return TokenTexts(ModelConfig(model=framed_model.path))


def turn_end(
    token_texts: TokenTexts,
    calls: CallStop,
    token_ids: list[int],
    steps: list[int],
    waits: bool,
) -> TurnEnd | None:
    """Where a turn ends whose tokens come so many at a time, counted from its start."""
    frames = SessionFrames(token_texts)
    params = to_vllm(Sampling(100, frames=framed_rules(calls)), None)
    frames.begin_turn(Request("session", [400], params, None))
    taken = 0
    for tokens in steps:
        batch = token_ids[taken : taken + tokens]
        end = frames.watch("session", batch, interrupt_waits=waits)
        if end is not None:
            return replace(end, kept=taken + end.kept)
        taken += tokens
    return None


@settings(suppress_health_check=list(HealthCheck))
@given(tokens=marked_tokens, calls=st.sampled_from(CallStop), waits=st.booleans(), data=st.data())
def test_a_turn_ends_at_the_same_token_however_many_come_at_once(
    token_texts: TokenTexts,
    tokens: list[int],
    calls: CallStop,
    waits: bool,
    data: st.DataObject,
) -> None:
    steps = data.draw(st.lists(st.integers(1, 5), min_size=len(tokens), max_size=len(tokens)))
    one_by_one = turn_end(token_texts, calls, tokens, [1] * len(tokens), waits)
    assert turn_end(token_texts, calls, tokens, steps, waits) == one_by_one
