"""Real engines for tests, and what is true of their outputs."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

from vllm import SamplingParams
from vllm.inputs import TokensPrompt

from caesura.engine.config import CaesuraConfig
from caesura.engine.serving.launch import Engine, EngineSettings, start_engine
from support.forks import engines_forked
from support.models.small import BLOCK_SIZE, kv_bytes
from support.waiting import HANG_SECONDS

T = TypeVar("T")

KV_BLOCKS = 41
ROUNDING_LOGPROB = 1e-3  # float32 sums in another order: two tokens this close are a tie


class EngineLoop:
    """An event loop in a thread, for engines that outlive a test."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(HANG_SECONDS)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class Control:
    """Uninterrupted runs of the same tokens, on stock vLLM."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._runs = 0

    async def greedy_violations(
        self, transcript: list[int], generated: list[int]
    ) -> list[tuple[int, float]]:
        """Positions in `generated` whose token is not the greedy one after all that precedes.

        One forward pass over the whole transcript: by induction the outputs equal those of an
        uninterrupted greedy run if and only if there is none.
        """
        params = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=1, detokenize=False)
        output = await self._generate(transcript, params)
        assert output.prompt_logprobs is not None
        violations = []
        for position in generated:
            entry = output.prompt_logprobs[position]
            best = max(item.logprob for item in entry.values())
            behind = best - entry[transcript[position]].logprob
            if behind > ROUNDING_LOGPROB:
                violations.append((position, behind))
        return violations

    async def generate(self, prompt: list[int], max_tokens: int) -> list[int]:
        params = SamplingParams(
            max_tokens=max_tokens, temperature=0, ignore_eos=True, detokenize=False
        )
        return list((await self._generate(prompt, params)).outputs[0].token_ids)

    async def _generate(self, prompt, params):
        self._runs += 1
        last = None
        async for output in self._engine.llm.generate(
            TokensPrompt(prompt_token_ids=list(prompt)), params, f"control-{self._runs}"
        ):
            last = output
        return last


@contextmanager
def running(loop: EngineLoop, settings: EngineSettings) -> Iterator[Engine]:
    """An engine in the loop."""

    async def start() -> Engine:
        return start_engine(settings)

    async def shut_down() -> None:
        engine.llm.shutdown(timeout=0)  # nobody waits for its process to clean up

    with engines_forked():
        engine = loop.run(start())
    try:
        yield engine
    finally:
        loop.run(shut_down())


def chaotic_settings(model_path: str, block_bytes: int | None = None) -> EngineSettings:
    """A random policy, too little memory, small chunks and few running requests.

    Args:
        model_path: the model.
        block_bytes: bytes of one KV block of the model; None for those of `MODEL`.
    """
    if block_bytes is None:
        block_bytes = kv_bytes(1)
    return EngineSettings(
        model_path,
        caesura=CaesuraConfig(
            policy="support.engines.chaos:Chaos",
            policy_options={
                "seed": 5,  # an order that displaces
                "review_scale": 0.01,
                "patience_floor_seconds": 0.05,
                "starvation_seconds": 1.0,
            },
            host_memory=30 * block_bytes,
            copy_budget=4 * block_bytes,
            check_integrity=True,
        ),
        kv_memory_bytes=KV_BLOCKS * block_bytes,
        dtype="float32",
        max_model_len=(KV_BLOCKS - 1) * BLOCK_SIZE,
        max_num_seqs=6,
        max_num_batched_tokens=96,
        compute_threads=1,
    )
