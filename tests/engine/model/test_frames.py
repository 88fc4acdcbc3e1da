"""Sessions with CML frames on the real engine: where turns end, and that every token is right."""

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from caesura.engine.model.frames import TokenTexts
from caesura.engine.serving.launch import Engine
from engine.model.frame_scenarios import (
    FramedPlan,
    Teacher,
    broken_promises,
    framed_scenarios,
    play_framed,
)
from framed_model import FramedModel
from support.draws import examples
from support.engines.real import EngineLoop

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def totals() -> Iterator[Counter[str]]:
    """What all examples came to; shown with `pytest -s`."""
    counts: Counter[str] = Counter()
    yield counts
    print("\n" + "\n".join(f"{count:8} {name}" for name, count in sorted(counts.items())))


@settings(max_examples=examples(12), suppress_health_check=list(HealthCheck))
@given(plans=framed_scenarios, tokens_seed=st.integers(0, 10_000))
def test_random_framed_sessions_write_what_an_uninterrupted_run_does(
    framed: Engine,
    teacher: Teacher,
    engine_loop: EngineLoop,
    framed_model: FramedModel,
    totals: Counter[str],
    plans: list[FramedPlan],
    tokens_seed: int,
) -> None:
    texts = TokenTexts(framed.llm.model_config)
    totals["schedules"] += 1
    for record in engine_loop.run(play_framed(framed, plans, tokens_seed)):
        broken = broken_promises(record, teacher, texts, framed_model.ends)
        totals["sessions"] += 1
        totals["generated tokens"] += sum(turn.tokens for turn in record.turns)
        totals.update(f"turns ended by {turn.stop}" for turn in record.turns)
        note(f"{len(record.transcript)} tokens, turns: {record.turns}")
        assert not broken
