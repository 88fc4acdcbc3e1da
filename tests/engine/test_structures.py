"""Models whose KV cache is not the plainest: the tokens are those of an uninterrupted run."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caesura.engine.serving.launch import Engine, EngineSettings
from engine.scenarios import Plan, Turn, play, scenarios
from support.draws import examples
from support.engines.real import Control, EngineLoop, chaotic_settings, running
from support.models.small import BLOCK_SIZE
from support.models.structures import FULL, SLIDING_AND_FULL, TWO_PAGE_SIZES, Structure

pytestmark = pytest.mark.engine

FP8_BYTES = 1
SPECULATION = {
    "method": "ngram",
    "num_speculative_tokens": 3,
    "prompt_lookup_min": 1,
    "prompt_lookup_max": 3,
}


@dataclass(frozen=True)
class Case:
    """A model, and how it is run.

    Attributes:
        structure: of the model.
        element_bytes: of the KV cache; None for those of the model.
        overrides: arguments of vLLM's engine.
        speculates: the engine with pauses does; nothing else may depend on it.
    """

    structure: Structure
    element_bytes: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    speculates: bool = False


CASES = {
    "sliding and full": Case(SLIDING_AND_FULL),
    "two page sizes": Case(TWO_PAGE_SIZES),
    "fp8": Case(FULL, FP8_BYTES, {"kv_cache_dtype": "fp8"}),
    "fp8_e5m2": Case(FULL, FP8_BYTES, {"kv_cache_dtype": "fp8_e5m2"}),
    "n-gram speculation": Case(FULL, speculates=True),
}


@dataclass(frozen=True)
class Pair:
    """An engine that pauses at random, and stock vLLM, with the same model."""

    chaotic: Engine
    control: Control


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def pair(
    request: pytest.FixtureRequest,
    engine_loop: EngineLoop,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    case: Case = request.param
    path = case.structure.write(tmp_path_factory.mktemp("model"))
    block_bytes = case.structure.block_bytes(BLOCK_SIZE, case.element_bytes)
    overrides = {"skip_tokenizer_init": True, **case.overrides}
    stock = EngineSettings(
        path,
        kv_memory_bytes=200 * block_bytes,
        max_model_len=64 * BLOCK_SIZE,
        dtype="float32",
        compute_threads=1,
        overrides=overrides,
    )
    if case.speculates:
        overrides = {**overrides, "speculative_config": SPECULATION}
    chaotic = replace(chaotic_settings(path, block_bytes), overrides=overrides)
    with (
        running(engine_loop, chaotic) as engine,
        running(engine_loop, stock) as uninterrupted,
    ):
        yield Pair(engine, Control(uninterrupted))


@settings(max_examples=examples(12), suppress_health_check=list(HealthCheck))
@given(plan=scenarios, tokens_seed=st.integers(0, 10_000))
def test_random_sessions_generate_what_an_uninterrupted_run_does(
    pair: Pair, engine_loop: EngineLoop, plan: list[Plan], tokens_seed: int
) -> None:
    records = engine_loop.run(play(pair.chaotic, plan, tokens_seed))

    async def judge() -> list[list[tuple[int, float]]]:
        return await asyncio.gather(
            *(
                pair.control.greedy_violations(record.transcript, record.generated)
                for record in records
            )
        )

    assert not any(engine_loop.run(judge()))


def test_copies_were_made_and_used_and_none_failed(pair: Pair, engine_loop: EngineLoop) -> None:
    turns = tuple(Turn(80, 8, 0.02, {}) for _ in range(4))
    plans = [Plan(turns, 0.0, index % 2 == 0, None, None) for index in range(6)]
    for tokens_seed in range(3):
        engine_loop.run(play(pair.chaotic, plans, tokens_seed))
    totals = pair.chaotic.counts.totals
    assert totals["copied_tokens"] > 0
    assert totals["loaded_tokens"] + totals["prefetched_tokens"] > 0
    assert totals["failed_copies"] == 0
