"""A whole engine in this process, stepped by its caller, that times every iteration.

An iteration is timed as the scheduler's own `StepTimer` does: from its scheduling to the end of
its update, or from the end of the one before where both were under way.
"""

import itertools
import time
from collections import deque
from typing import Any

import numpy as np
import torch
from vllm import SamplingParams
from vllm.distributed.kv_transfer.kv_transfer_state import get_kv_transfer_group
from vllm.engine.arg_utils import EngineArgs
from vllm.inputs import TokensPrompt
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine.llm_engine import LLMEngine

from caesura.engine.connector import CaesuraConnector
from caesura.engine.copies.batch import CopyBatch
from caesura.engine.serving.launch import EngineSettings, engine_arguments, engine_environment
from caesura.engine.tracing.recorder import attention_of
from caesura.errors import ConfigurationError
from caesura.lab.calibrate.iteration_fit import IterationSample

COPY_SECONDS_AT_MOST = 60.0
SEED = 0


class TimedEngine:
    """An engine with Caesura. One per process: vLLM's worker keeps process-wide state.

    Attributes:
        settings: what was started.
        num_blocks: KV blocks that requests can use.
        num_slots: blocks of host memory.
        max_tokens: longest context, also by the KV memory.
        block_bytes: bytes of one KV block.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        if settings.compute_threads is not None and not torch.cuda.is_available():
            torch.set_num_threads(settings.compute_threads)
        with engine_environment(settings, in_process=True):
            self._llm = LLMEngine.from_engine_args(EngineArgs(**engine_arguments(settings)))
        self._scheduler = self._llm.engine_core.engine_core.scheduler
        self._connector: CaesuraConnector = get_kv_transfer_group()
        self._timed: list[IterationSample] = []
        self._time_iterations()
        self._names = itertools.count()
        self._batch_ids = itertools.count(1 << 40)
        self._random = np.random.default_rng(SEED)
        self._vocab_size = int(self._llm.model_config.get_vocab_size())
        self.num_blocks: int = self._scheduler.kv_cache_config.num_blocks - 1
        self.num_slots = self._connector.num_slots
        self.max_tokens = min(self._scheduler.max_model_len, self.num_blocks * settings.block_size)
        self.block_bytes = self._connector._block_bytes

    def shutdown(self) -> None:
        """Stop the engine."""
        self._llm.engine_core.shutdown()

    def prompts(self, count: int, tokens: int) -> list[list[int]]:
        """Prompts of random tokens, which no cache knows."""
        return self._random.integers(0, self._vocab_size, (count, tokens)).tolist()

    def run(self, prompts: list[list[int]], output_tokens: int) -> list[IterationSample]:
        """Run requests that start together to their ends."""
        self._timed.clear()
        params = SamplingParams(
            max_tokens=output_tokens, temperature=0, ignore_eos=True, detokenize=False
        )
        for tokens in prompts:
            prompt = TokensPrompt(prompt_token_ids=list(tokens))
            self._llm.add_request(f"timed-{next(self._names)}", prompt, params.clone())
        while self._llm.has_unfinished_requests():
            self._llm.step()
        return list(self._timed)

    def copy(self, blocks: int, out: bool) -> float:
        """Seconds of one batch of copies of random blocks by the connector's own backend.

        What the KV cache held is lost: no request may run after it.
        """
        device = (self._random.permutation(self.num_blocks)[:blocks] + 1).tolist()
        host = self._random.permutation(self.num_slots)[:blocks].tolist()
        if out:
            batch = CopyBatch(next(self._batch_ids), stores=list(zip(device, host, strict=True)))
        else:
            batch = CopyBatch(next(self._batch_ids), loads=list(zip(host, device, strict=True)))
        return self._copy(batch)

    def touch_host_memory(self) -> None:
        """Write to every slot, so that no copy is timed with the kernel's first page faults."""
        for slot in range(self.num_slots):
            pair = 1 + slot % self.num_blocks, slot
            self._copy(CopyBatch(next(self._batch_ids), stores=[pair]))

    def _copy(self, batch: CopyBatch) -> float:
        backend = self._connector._backend
        if backend is None:
            raise ConfigurationError("no host memory: there are no copies to time")
        started = time.perf_counter()
        backend.start_loads(batch)
        backend.start_stores(batch)
        while batch.id not in (finished := backend.poll()).completed:
            if finished.failed or time.perf_counter() - started > COPY_SECONDS_AT_MOST:
                raise ConfigurationError("a copy between device and host memory failed")
        return time.perf_counter() - started

    def _time_iterations(self) -> None:
        schedule, update = self._scheduler.schedule, self._scheduler.update_from_output
        starts: deque[float] = deque()
        ended = 0.0

        def timed_schedule(*args: Any, **kwargs: Any) -> SchedulerOutput:
            starts.append(time.perf_counter())
            return schedule(*args, **kwargs)

        def timed_update(output: SchedulerOutput, *args: Any, **kwargs: Any) -> Any:
            nonlocal ended
            result = update(output, *args, **kwargs)
            now = time.perf_counter()
            began, ended = max(starts.popleft(), ended), now
            if output.total_num_scheduled_tokens:
                self._timed.append(_sample(output, now - began))
            return result

        self._scheduler.schedule = timed_schedule
        self._scheduler.update_from_output = timed_update


def _sample(output: SchedulerOutput, seconds: float) -> IterationSample:
    context_tokens, pairs = attention_of(output)
    return IterationSample(
        query_tokens=output.total_num_scheduled_tokens,
        context_tokens=context_tokens,
        sequences=len(output.num_scheduled_tokens),
        attention_pairs=pairs,
        seconds=seconds,
    )
