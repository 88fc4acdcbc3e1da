"""Models whose KV cache is not the plainest: the tokens are those of an uninterrupted run."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caesura.engine.serving.launch import Engine, EngineSettings
from engine.scenarios import Plan, Turn, play, scenarios
from support.draws import examples
from support.engines.real import Control, EngineLoop, chaotic_settings, running
from support.models.small import BLOCK_SIZE
from support.models.structures import (
    CHUNKED,
    DRAFT_ELEMENTS_PER_TOKEN,
    FULL,
    SLIDING_AND_FULL,
    TWO_PAGE_SIZES,
    Structure,
    write_eagle_draft,
)

pytestmark = pytest.mark.engine

FP8_BYTES = 1
N_GRAMS = {"method": "ngram", "prompt_lookup_min": 1, "prompt_lookup_max": 3}
DRAFTED_TOKENS = 3


@dataclass(frozen=True)
class Case:
    """A model, and how it is run.

    Attributes:
        structure: of the model.
        element_bytes: of the KV cache; None for those of the model.
        overrides: arguments of vLLM's engine.
        speculates: the engine with pauses does; nothing else may depend on it.
        draft: writes the model that drafts, None for n-grams.
        draft_elements: what it adds to each token.
        memory_share: factor on memory; windows take less of it than full attention would.
    """

    structure: Structure
    element_bytes: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    speculates: bool = False
    draft: Callable[[Path], str] | None = None
    draft_elements: int = 0
    memory_share: float = 1.0


CASES = {
    "sliding and full": Case(SLIDING_AND_FULL, memory_share=0.5),
    "two page sizes": Case(TWO_PAGE_SIZES, memory_share=0.75),
    "chunks and full": Case(CHUNKED, memory_share=0.6),
    "windows kept whole": Case(TWO_PAGE_SIZES, overrides={"disable_hybrid_kv_cache_manager": True}),
    "fp8": Case(FULL, FP8_BYTES, {"kv_cache_dtype": "fp8"}),
    "fp8_e5m2": Case(FULL, FP8_BYTES, {"kv_cache_dtype": "fp8_e5m2"}),
    "n-gram speculation": Case(FULL, speculates=True),
    "EAGLE draft of other geometry": Case(
        FULL, speculates=True, draft=write_eagle_draft, draft_elements=DRAFT_ELEMENTS_PER_TOKEN
    ),
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
        drafts = N_GRAMS
        if case.draft is not None:
            drafts = {"method": "eagle", "model": case.draft(tmp_path_factory.mktemp("draft"))}
            block_bytes += case.draft_elements * BLOCK_SIZE * 4
        speculation = {**drafts, "num_speculative_tokens": DRAFTED_TOKENS}
        overrides = {**overrides, "speculative_config": speculation}
    scarce = chaotic_settings(path, int(block_bytes * case.memory_share))
    chaotic = replace(scarce, overrides=overrides)
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
