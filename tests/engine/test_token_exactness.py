"""Whatever is paused, copied, dropped, interrupted or preempted: the tokens are the same."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from caesura.engine.serving.launch import Engine
from engine.scenarios import Plan, play, scenarios
from support.draws import examples
from support.engines.real import Control, EngineLoop

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
        note(f"{len(record.transcript)} tokens, {len(record.generated)} generated")

    async def judge() -> list[list[tuple[int, float]]]:
        return await asyncio.gather(
            *(control.greedy_violations(record.transcript, record.generated) for record in records)
        )

    assert not any(engine_loop.run(judge()))
