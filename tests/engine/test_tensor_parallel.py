"""Two ranks that share every layer: pauses and copies are of both."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caesura.engine.serving.launch import Engine
from engine.scenarios import Plan, Turn, play, scenarios
from support.draws import examples
from support.engines.real import Control, EngineLoop, chaotic_settings, running

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def parallel(engine_loop: EngineLoop, model_path: str) -> Iterator[Engine]:
    overrides = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}
    chaotic = replace(chaotic_settings(model_path), overrides=overrides)
    with running(engine_loop, chaotic) as engine:
        yield engine


@settings(max_examples=examples(6), suppress_health_check=list(HealthCheck))
@given(plan=scenarios, tokens_seed=st.integers(0, 10_000))
def test_random_sessions_generate_what_one_rank_does(
    parallel: Engine,
    control: Control,
    engine_loop: EngineLoop,
    plan: list[Plan],
    tokens_seed: int,
) -> None:
    records = engine_loop.run(play(parallel, plan, tokens_seed))

    async def judge() -> list[list[tuple[int, float]]]:
        return await asyncio.gather(
            *(control.greedy_violations(record.transcript, record.generated) for record in records)
        )

    assert not any(engine_loop.run(judge()))


def test_both_ranks_have_copied(parallel: Engine, engine_loop: EngineLoop) -> None:
    assert parallel.llm.vllm_config.parallel_config.world_size == 2
    turns = tuple(Turn(80, 8, 0.02, {}) for _ in range(4))
    plans = [Plan(turns, 0.0, True, None, None)] * 6
    engine_loop.run(play(parallel, plans, 1))
    totals = parallel.counts.totals
    assert totals["copied_tokens"] > 0
    assert totals["failed_copies"] == 0
