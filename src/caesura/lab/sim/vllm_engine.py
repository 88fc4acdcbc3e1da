"""vLLM's production scheduler without a model: configuration, requests, steps.

What a step computes is up to the caller (`sim` has a modelled device; the tests have one that
verifies every position). The scheduler, the KV cache manager, the block pool, the connector's
books and the policies are the ones that serve.
"""

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vllm.config import KVTransferConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.v1.core.kv_cache_utils import BlockHash
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutput
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.simple_kv_offload.metadata import (
    SimpleCPUOffloadMetadata,
    SimpleCPUOffloadWorkerMetadata,
)
from vllm.v1.structured_output import StructuredOutputManager

from caesura.engine.config import SECTION, CaesuraConfig, block_bytes
from caesura.engine.connector import CaesuraConnector, CopyMetadata, CopyReport
from caesura.engine.flags import additional_config, kv_transfer_config
from caesura.engine.protocol import ENDPOINT_ARGUMENT
from caesura.engine.scheduler import InterceptScheduler
from caesura.engine.tracing.recorder import NO_TRACE, Trace, TraceRecorder, attention_of, levels_of
from caesura.lab.bench.vllm_metered import COMPUTED_BEFORE, MeteredScheduler
from caesura.lab.sim.device import Device, Step, StepTimes
from caesura.lab.sim.duration_scores import DurationScore, ScoredDurations
from caesura.lab.sim.vllm_config import kv_cache_config, scheduler_config
from caesura.lab.sim.vllm_decodes import ShortcutScheduler
from caesura.policy.infercept import InferCept
from caesura.policy.min_waste import MinWaste

TOKEN = 0
"""What the modelled device samples: contents play no part in scheduling."""

_SAMPLED = [TOKEN]
_NOTHING_SAMPLED: list[int] = []


@dataclass(frozen=True, slots=True)
class HeadlessSettings:
    """A scheduler and the memory that it manages.

    Attributes:
        model: path of any model that vLLM can read the configuration of (its limits are
            replaced by those below).
        kv_tokens: device KV memory.
        block_size: tokens per block.
        kv_bytes_per_token: size of a token's KV, over all ranks.
        max_num_seqs, max_num_batched_tokens, max_model_len: as in vLLM.
        prefix_caching: vLLM's prefix caching.
        caesura: Caesura's options; None for vLLM's own scheduler.
        offload_bytes: host memory of vLLM's own CPU offloading (write-through, LRU), 0 for none.
            Only without Caesura.
        knows_pauses: InferCept's policy is told how long pauses will last (`pause_ends`).
        trace: file for a trace; see `HeadlessEngine.write_trace`.
    """

    model: str
    kv_tokens: int
    block_size: int = 16
    kv_bytes_per_token: int = 4096
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int = 131072
    prefix_caching: bool = True
    caesura: CaesuraConfig | None = None
    offload_bytes: int = 0
    knows_pauses: bool = False
    trace: Path | None = None

    @property
    def num_blocks(self) -> int:
        """Device blocks that requests can use (vLLM's null block comes on top)."""
        return self.kv_tokens // self.block_size


@dataclass(slots=True)
class _Copies:
    """Copies under way, reported to the scheduler when they are over."""

    batch_id: int | None = None
    received: list[str] = field(default_factory=list)
    store_event: int | None = None


def _vllm_config(settings: HeadlessSettings, cache_config: KVCacheConfig) -> VllmConfig:
    config = scheduler_config(
        settings.model,
        settings.block_size,
        cache_config,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_model_len=settings.max_model_len,
        prefix_caching=settings.prefix_caching,
    )
    if settings.caesura is not None:
        config.kv_transfer_config = KVTransferConfig(**kv_transfer_config())
        config.additional_config = additional_config(settings.caesura)
        config.additional_config[SECTION].setdefault("load_in_step", False)
        if settings.trace is not None:
            config.additional_config[SECTION]["trace"] = str(settings.trace)
    elif settings.offload_bytes:
        config.kv_transfer_config = KVTransferConfig(
            kv_connector="SimpleCPUOffloadConnector",
            kv_role="kv_both",
            kv_connector_extra_config={"cpu_bytes_to_use": settings.offload_bytes},
        )
    return config


class VirtualClockScheduler(InterceptScheduler):
    """The production scheduler on another clock."""

    def __init__(self, *args: object, clock: Callable[[], float], **kwargs: object) -> None:
        self.clock = clock
        super().__init__(*args, **kwargs)


class _HeadlessScheduler(VirtualClockScheduler, ShortcutScheduler):
    """Ours around vLLM's with the shortcut."""


class _StockScheduler(MeteredScheduler, ShortcutScheduler):
    """vLLM's with the shortcut, on another clock, and with a meter."""

    def __init__(self, *args: Any, clock: Callable[[], float], **kwargs: Any) -> None:
        self.clock = clock
        super().__init__(*args, **kwargs)


class HeadlessEngine:
    """vLLM's engine core in virtual time: steps advance the clock, nothing sleeps.

    Args:
        settings: scheduler and memory.
        device: how long things take.
        hash_block: gives the hash of a request's block by its index; two requests share a
            block exactly when it gives them the same.

    Attributes:
        now_seconds: the virtual clock.
        steps: iterations so far.
        scheduled_tokens: tokens computed so far.
        loaded_tokens, stored_tokens: tokens copied so far, from and to host memory, without
            those that an iteration waited for.
        pause_ends: when the pauses of requests will be over, for a policy that knows it.
    """

    IDLE_STEP_SECONDS = 0.002

    def __init__(
        self,
        settings: HeadlessSettings,
        device: Device,
        hash_block: Callable[[str, int], bytes],
    ) -> None:
        self.settings = settings
        self.now_seconds = 0.0
        self.steps = 0
        self.scheduled_tokens = 0
        self.loaded_tokens = 0
        self.stored_tokens = 0
        self.pause_ends: dict[str, float] = {}
        cache_config = kv_cache_config(
            settings.num_blocks + 1, settings.block_size, settings.kv_bytes_per_token
        )
        self._block_bytes = block_bytes(cache_config)
        config = _vllm_config(settings, cache_config)
        arguments = (config, cache_config, StructuredOutputManager(config), settings.block_size)
        self.scheduler: InterceptScheduler | MeteredScheduler = (
            _StockScheduler(*arguments, clock=lambda: self.now_seconds)
            if settings.caesura is None
            else _HeadlessScheduler(*arguments, clock=lambda: self.now_seconds)
        )
        self._durations = ScoredDurations()
        if isinstance(self.scheduler, InterceptScheduler):
            policy = self.scheduler.keeper.policy
            if isinstance(policy, MinWaste):
                policy.durations = self._durations
            if isinstance(policy, InferCept) and settings.knows_pauses:
                policy.remaining_seconds = self._remaining_seconds
        self._trace = self._stock_trace()
        self._device = device
        self._hash_block = hash_block
        if isinstance(self.scheduler.connector, CaesuraConnector):
            speed = device.link_bytes_per_second
            self.scheduler.connector.transfers.seconds_per_block = self._block_bytes / speed
        self._copies: list[tuple[float, int, _Copies]] = []
        self._copy_order = 0

    def _remaining_seconds(self, request_id: str) -> float | None:
        ends = self.pause_ends.get(request_id)
        return None if ends is None else max(0.0, ends - self.now_seconds)

    def _stock_trace(self) -> Trace:
        """A trace of what vLLM's own scheduler does; ours makes its own."""
        path = self.settings.trace
        if path is None or self.settings.caesura is not None:
            return NO_TRACE
        return TraceRecorder(
            path,
            "stock",
            lambda: self.now_seconds,
            lambda: levels_of(self.scheduler, None),
            self._block_bytes,
        )

    def write_trace(self) -> None:
        """Write the trace so far, if one was asked for."""
        self._trace.write()
        if isinstance(self.scheduler, InterceptScheduler):
            self.scheduler.trace.write()

    # Requests

    def submit(
        self,
        request_id: str,
        session: str,
        num_tokens: int,
        max_tokens: int,
        *,
        resumable: bool,
        endpoint: str | None = None,
        computed_before: int = 0,
    ) -> None:
        """A request with a prompt of `num_tokens` tokens, or more tokens for a session in place.
        `computed_before` are leading tokens that its session's last request had computed."""
        block_size = self.settings.block_size

        def hash_new_blocks(request: Request) -> list[BlockHash]:
            first, stop = len(request.block_hashes), request.num_tokens // block_size
            if first == stop:
                return []
            return [BlockHash(self._hash_block(session, index)) for index in range(first, stop)]

        request = Request(
            request_id=request_id,
            prompt_token_ids=[TOKEN] * num_tokens,
            sampling_params=SamplingParams(
                max_tokens=max_tokens,
                ignore_eos=True,
                extra_args={ENDPOINT_ARGUMENT: endpoint, COMPUTED_BEFORE: computed_before},
            ),
            pooling_params=None,
            arrival_time=self.now_seconds,
            block_hasher=hash_new_blocks if self.settings.prefix_caching else None,
            resumable=resumable,
        )
        self._trace.belongs_to(request_id, session)
        self.scheduler.add_request(request)

    def close(self, request_id: str) -> None:
        """A session in place is over."""
        self.scheduler.finish_requests(request_id, RequestStatus.FINISHED_ABORTED)

    # Steps

    def has_work(self) -> bool:
        """Whether the engine core would step."""
        return bool(self.scheduler.has_requests()) or bool(self._copies)

    def next_seconds(self) -> float:
        """When it steps next; infinite if it would not."""
        return self.now_seconds if self.has_work() else float("inf")

    def reach(self, seconds: float) -> None:
        """Time passes up to this moment, if there is nothing to do before it."""
        if self.now_seconds < seconds and not self.has_work():
            self.now_seconds = seconds

    def step(self, not_after: float = float("inf")) -> list[tuple[str, int, bool]]:
        """One iteration: schedule, compute, take the results.

        Args:
            not_after: when there is nothing to compute, time does not jump past this.

        Returns:
            `(request id, new tokens, turn is over)` of each request that got anything.
        """
        return [
            (out.request_id, len(out.new_token_ids), out.finish_reason is not None)
            for out in self.step_outputs(not_after)
        ]

    def step_outputs(self, not_after: float = float("inf")) -> list[EngineCoreOutput]:
        """The same as `step`, with all that the scheduler says of each request."""
        output = self.scheduler.schedule()
        began = self.now_seconds
        self._trace.scheduled(output, self.scheduler.requests)
        times = self._run(output)
        if output.total_num_scheduled_tokens:
            self.now_seconds += times.computed
        else:
            self._jump(times, not_after)
        result = self._result(output)
        outputs = self.scheduler.update_from_output(output, result)
        self._trace.iterated(began, self.now_seconds)
        return [out for of_client in outputs.values() for out in of_client.outputs]

    def _run(self, output: SchedulerOutput) -> StepTimes:
        tokens = output.total_num_scheduled_tokens
        self.steps += 1
        self.scheduled_tokens += tokens
        loads, urgent, stores, copies = self._copies_of(output)
        self.loaded_tokens += loads * self.settings.block_size
        self.stored_tokens += stores * self.settings.block_size
        context, pairs = attention_of(output)
        step = Step(
            query_tokens=tokens,
            context_tokens=context,
            sequences=len(output.num_scheduled_tokens),
            attention_pairs=pairs,
            load_bytes=loads * self._block_bytes,
            urgent_bytes=urgent * self._block_bytes,
            store_bytes=stores * self._block_bytes,
        )
        times = self._device.run(step, self.now_seconds)
        if copies is None:
            return times
        if copies.store_event is not None and copies.received:
            # vLLM's own connector reports loads and stores each for itself.
            self._report_later(times.loaded, _Copies(received=copies.received))
            self._report_later(times.stored, _Copies(store_event=copies.store_event))
        else:
            self._report_later(max(times.loaded, times.stored), copies)
        return times

    def _report_later(self, after_seconds: float, copies: _Copies) -> None:
        self._copy_order += 1
        over_seconds = self.now_seconds + after_seconds
        heapq.heappush(self._copies, (over_seconds, self._copy_order, copies))

    @staticmethod
    def _copies_of(output: SchedulerOutput) -> tuple[int, int, int, _Copies | None]:
        """Blocks loaded, copied before the iteration computes, and stored; what to report."""
        metadata = output.kv_connector_metadata
        if isinstance(metadata, CopyMetadata) and metadata.batch is not None:
            batch = metadata.batch
            report = _Copies(batch_id=batch.id, received=list(batch.finished_loads))
            urgent = len(batch.urgent_stores) + len(batch.urgent_loads)
            return len(batch.loads), urgent, len(batch.stores), report
        if isinstance(metadata, SimpleCPUOffloadMetadata):
            report = _Copies()
            if metadata.load_event >= 0:
                report.received = list(metadata.load_event_to_reqs.get(metadata.load_event, ()))
            if metadata.store_event >= 0:
                report.store_event = metadata.store_event
            if report.received or report.store_event is not None:
                loads, stores = len(metadata.load_cpu_blocks), len(metadata.store_gpu_blocks)
                return loads, 0, stores, report
        return 0, 0, 0, None

    def _jump(self, times: StepTimes, not_after: float) -> None:
        """Nothing was computed: go to the next thing that happens."""
        until = self.now_seconds + max(times.computed, self.IDLE_STEP_SECONDS)
        if self._copies:
            until = max(self.now_seconds, self._copies[0][0])
        self.now_seconds = max(self.now_seconds + times.computed, min(until, not_after))

    def _result(self, output: SchedulerOutput) -> ModelRunnerOutput:
        ids = list(output.num_scheduled_tokens)
        requests = self.scheduler.requests
        return ModelRunnerOutput(
            req_ids=ids,
            req_id_to_index={request_id: index for index, request_id in enumerate(ids)},
            sampled_token_ids=[
                _NOTHING_SAMPLED
                if requests[request_id].is_prefill_chunk
                else self._sampled(requests[request_id])
                for request_id in ids
            ],
            kv_connector_output=self._finished_copies() if self._copies else None,
        )

    def _sampled(self, request: Request) -> list[int]:
        """What the model writes next."""
        return _SAMPLED

    def _finished_copies(self) -> KVConnectorOutput:
        output = KVConnectorOutput(finished_recving=set())
        completed: Counter[int] = Counter()
        stored: dict[int, int] = {}
        while self._copies and self._copies[0][0] <= self.now_seconds:
            _, _, copies = heapq.heappop(self._copies)
            assert output.finished_recving is not None
            output.finished_recving.update(copies.received)
            if copies.batch_id is not None:
                completed[copies.batch_id] = 1
            if copies.store_event is not None:
                stored[copies.store_event] = 1
        if completed:
            output.kv_connector_worker_meta = CopyReport(completed)
        elif stored:
            output.kv_connector_worker_meta = SimpleCPUOffloadWorkerMetadata(stored)
        return output

    # Counts

    def duration_rows(self) -> list[DurationScore]:
        """Durations of pauses, as the policy predicted them and as they were; empty for policies
        that predict none."""
        return self._durations.rows()

    def counts(self) -> dict[str, int | float]:
        """What the scheduler counted, by `counter_key` and, over all labels, by name; of stock only
        waste and what was computed again."""
        if isinstance(self.scheduler, InterceptScheduler):
            self.scheduler.keeper.contexts.count_copies()
        self.scheduler.waste.publish()
        stats = self.scheduler.metrics.take()
        return {**stats.data["counters"], **stats.reduce()} if stats is not None else {}
