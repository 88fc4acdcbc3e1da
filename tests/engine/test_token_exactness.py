"""Whatever is paused, copied, dropped, interrupted or preempted: the tokens are the same."""

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from caesura.engine.serving.launch import Engine
from support.draws import examples

from .conftest import Control, EngineLoop
from .scenarios import Plan, play, scenarios

pytestmark = pytest.mark.engine


@settings(max_examples=examples(50), suppress_health_check=list(HealthCheck))
@given(plan=scenarios, tokens_seed=st.integers(0, 10_000))
def test_random_sessions_generate_what_an_uninterrupted_run_does(
    chaotic: Engine,
    control: Control,
    engine_loop: EngineLoop,
    plan: list[Plan],
    tokens_seed: int,
) -> None:
    records = engine_loop.run(play(chaotic, plan, tokens_seed))
    for record in records:
        violations = engine_loop.run(control.greedy_violations(record.transcript, record.generated))
        note(f"{len(record.transcript)} tokens, {len(record.generated)} generated")
        assert not violations
