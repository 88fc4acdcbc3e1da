"""Start an engine in this program."""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.loggers import StatLoggerBase
from vllm.v1.metrics.stats import IterationStats, MultiModalCacheStats, SchedulerStats

from caesura.engine.config import CaesuraConfig, check_host_memory
from caesura.engine.flags import SCHEDULER_CLASS, additional_config, kv_transfer_config
from caesura.engine.serving.token_engines import InPlaceEngine
from caesura.engine.support import supported_only
from caesura.session.protocol import TokenEngine
from caesura.variables import environment


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What engine to start.

    Attributes:
        model: path or name that vLLM can load.
        caesura: Caesura's options; None for stock vLLM.
        prefix_caching: vLLM's prefix caching (stock only; Caesura needs it).
        kv_memory_bytes: exact size of the KV cache; None lets vLLM profile it.
        block_size: tokens per KV block (the CPU backend takes multiples of 32 only).
        max_num_seqs: requests running at once at most.
        max_num_batched_tokens: query tokens per iteration at most.
        max_model_len: longest context; None for the model's own.
        dtype: weights and KV cache; float32 makes results independent of the batch.
        compute_threads: OpenMP threads on CPU; None leaves them to the environment.
        overrides: further arguments of `vllm.AsyncEngineArgs`.
    """

    model: str
    caesura: CaesuraConfig | None = None
    prefix_caching: bool = True
    kv_memory_bytes: int | None = None
    block_size: int = 32
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 512
    max_model_len: int | None = None
    dtype: str = "auto"
    compute_threads: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)


class Counts(StatLoggerBase):
    """Counts what the engine reports with each step. One per engine, in the API process."""

    def __init__(self, vllm_config: VllmConfig, engine_index: int = 0) -> None:
        self.totals: Counter[str] = Counter()
        self.gauges: dict[str, int] = {}

    def record(
        self,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
        mm_cache_stats: MultiModalCacheStats | None = None,
        engine_idx: int = 0,
    ) -> None:
        """Add one step."""
        if scheduler_stats is None:
            return
        details = scheduler_stats.iteration_details
        if details is not None and not details.is_dummy:
            self.totals["iterations"] += 1
            self.totals["scheduled_tokens"] += details.num_ctx_tokens
            self.totals["scheduled_tokens"] += details.num_generation_tokens
        stats = scheduler_stats.kv_connector_stats or {}
        for key, amount in stats.get("counters", {}).items():
            name, *labels = json.loads(key)
            self.totals[name] += amount
            if labels:
                self.totals[key] += amount
        self.gauges.update(stats.get("gauges", {}))

    def log_engine_initialized(self) -> None:
        """Nothing to log."""

    def reset(self) -> None:
        """Start counting anew."""
        self.totals.clear()


class Engine:
    """A started engine.

    Attributes:
        llm: vLLM's engine client.
        tokens: sessions of tokens on it.
        counts: the totals of its reports.
    """

    def __init__(self, llm: AsyncLLM, tokens: TokenEngine, counts: Counts) -> None:
        self.llm = llm
        self.tokens = tokens
        self.counts = counts

    @property
    def vocab_size(self) -> int:
        """Size of the model's vocabulary."""
        return int(self.llm.model_config.get_vocab_size())

    @property
    def max_context_tokens(self) -> int:
        """Longest context that the engine serves, also by its KV memory."""
        cache = self.llm.vllm_config.cache_config
        longest = int(self.llm.model_config.max_model_len)
        if cache.num_gpu_blocks:
            longest = min(longest, (cache.num_gpu_blocks - 1) * cache.block_size)
        return longest

    async def reset(self) -> None:
        """Forget cached contexts and counts. No session may be open."""
        await self.llm.reset_prefix_cache(reset_connector=True)
        self.counts.reset()

    def shutdown(self) -> None:
        """Stop the engine."""
        self.llm.shutdown()


def start_engine(
    settings: EngineSettings, sessions: Callable[[AsyncLLM], TokenEngine] = InPlaceEngine
) -> Engine:
    """Start an engine in a process of its own and wait until it serves.

    Args:
        settings: what to start.
        sessions: makes sessions on it; those in place need Caesura's scheduler.

    Raises:
        ConfigurationError: Caesura's options do not fit the machine.
        RuntimeError: the engine did not start; its own log says why.
    """
    if settings.caesura is not None:
        check_host_memory(settings.caesura.host_memory)
    counts: list[Counts] = []

    def make_counts(vllm_config: VllmConfig, engine_index: int = 0) -> Counts:
        counts.append(Counts(vllm_config, engine_index))
        return counts[-1]

    with engine_environment(settings):
        args = AsyncEngineArgs(**engine_arguments(settings))
        with supported_only() if settings.caesura is not None else nullcontext():
            llm = AsyncLLM.from_engine_args(args, stat_loggers=[make_counts])
    return Engine(llm, sessions(llm), counts[0])


def engine_arguments(settings: EngineSettings) -> dict[str, Any]:
    """Arguments of vLLM's `AsyncEngineArgs`."""
    arguments: dict[str, Any] = {
        "model": settings.model,
        "enable_prefix_caching": settings.prefix_caching,
        "block_size": settings.block_size,
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "max_model_len": settings.max_model_len,
        "dtype": settings.dtype,
        "kv_cache_memory_bytes": settings.kv_memory_bytes,
        "enable_logging_iteration_details": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if not torch.cuda.is_available():
        arguments["enforce_eager"] = True
        arguments["distributed_executor_backend"] = "uni"
    if settings.caesura is not None:
        arguments["scheduler_cls"] = SCHEDULER_CLASS
        arguments["kv_transfer_config"] = kv_transfer_config()
        arguments["additional_config"] = additional_config(settings.caesura)
    return arguments | settings.overrides


def engine_environment(
    settings: EngineSettings, *, in_process: bool = False
) -> AbstractContextManager[None]:
    """Environment of an engine's start, put back afterwards.

    On CPU the worker runs in the engine's process: with vLLM's multiprocess executor a worker
    would spin on shared memory, on a core that a small machine does not have.

    Args:
        settings: what is started.
        in_process: nothing runs outside the caller's process, on any device.
    """
    values: dict[str, str] = {}
    on_cpu = not torch.cuda.is_available()
    if on_cpu or in_process:
        values["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if on_cpu:
        values["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        if settings.compute_threads is not None:
            values["OMP_NUM_THREADS"] = str(settings.compute_threads)
    return environment(values)
