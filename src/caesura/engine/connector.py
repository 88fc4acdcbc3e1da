"""vLLM's KV connector of Caesura: host copies of paused contexts.

One class with two roles, as vLLM wants it. In the scheduler it answers which tokens have a
host copy and plans copies (`copies/transfers.py`); in each worker it carries them out
(`copies/backend.py`). Copies out are selective: only what the policy asks for.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from vllm.config import VllmConfig
from vllm.distributed.kv_events import KVCacheEvent
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorTransferResults,
    KVConnectorWorkerMetadata,
    SupportsHMA,
)
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
    PromMetric,
    PromMetricT,
)
from vllm.logger import init_logger
from vllm.platforms import current_platform
from vllm.v1.metrics.cache_hit_source import CacheHitSource
from vllm.v1.metrics.stats import SchedulerStats
from vllm.v1.outputs import KVConnectorOutput
from vllm.v1.worker.gpu.attn_utils import get_kv_cache_spec

from caesura.engine.config import CaesuraConfig, block_bytes, check_host_memory
from caesura.engine.copies.backend import CopyBackend, device_regions, make_backend, row_bytes
from caesura.engine.copies.batch import CopyBatch
from caesura.engine.copies.groups import HostKey, groups_of
from caesura.engine.copies.host_events import HostEvents, PublishedHostEvents
from caesura.engine.copies.host_pool import HostPool
from caesura.engine.copies.transfers import Transfers
from caesura.engine.metrics import PausePrometheus, PauseStats
from caesura.engine.protocol import CONNECTOR_CLASS, CONNECTOR_MODULE
from caesura.engine.support import check_layers, window_note
from caesura.errors import ConfigurationError
from caesura.logs import configure_engine_logging

if TYPE_CHECKING:
    from vllm.forward_context import ForwardContext
    from vllm.v1.attention.backend import AttentionMetadata
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

logger = init_logger(__name__)


@dataclass
class CopyMetadata(KVConnectorMetadata):
    """Scheduler to workers: the copies of this iteration."""

    batch: CopyBatch | None = None


@dataclass
class CopyReport(KVConnectorWorkerMetadata):
    """Workers to scheduler: number of ranks that completed, or failed, each batch, and the
    speed of copies: blocks, and the seconds that they took."""

    completed: Counter[int] = field(default_factory=Counter)
    failed: Counter[int] = field(default_factory=Counter)
    copied_blocks: int = 0
    copy_seconds: float = 0.0

    def aggregate(self, other: KVConnectorWorkerMetadata) -> "CopyReport":
        """Add another rank's report."""
        assert isinstance(other, CopyReport)
        return CopyReport(
            self.completed + other.completed,
            self.failed + other.failed,
            self.copied_blocks + other.copied_blocks,
            self.copy_seconds + other.copy_seconds,
        )


@dataclass(frozen=True, slots=True)
class _Match:
    """Host copies that take a request from boundary `first` to boundary `end` (in blocks)."""

    first: int
    end: int
    keys: list[HostKey]


@dataclass(frozen=True)
class HostSlots(KVConnectorHandshakeMetadata):
    """Worker to scheduler, once at start: how many slots of host memory this rank has."""

    num_slots: int


class CaesuraConnector(KVConnectorBase_V1, SupportsHMA):
    """Host copies of paused contexts, as a vLLM KV connector."""

    _cache_hit_source = CacheHitSource.HOST

    def __init__(
        self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: "KVCacheConfig"
    ) -> None:
        configure_engine_logging()
        super().__init__(vllm_config, role, kv_cache_config)
        self.config = CaesuraConfig.from_vllm(vllm_config)
        self.transfers: Transfers  # in the scheduler, once the pool is known
        self._backend: CopyBackend | None = None
        self._block_bytes = block_bytes(kv_cache_config)
        self._block_size: int  # in the scheduler
        world_size = vllm_config.parallel_config.world_size
        if role is KVConnectorRole.WORKER:
            check_host_memory(self.config.host_memory)
            check_layers(kv_cache_config)  # the scheduler sees one layer of each group
        self._num_workers = world_size
        self._host_memory = self.config.host_memory // world_size
        self.num_slots = self._host_memory // self._block_bytes
        self._budget_blocks = self.config.copy_budget // self._block_bytes
        # A load that fails within an iteration takes that iteration back. With another one under
        # way, or on the second model runner (which counts for itself), that cannot be done.
        # With several KV cache groups vLLM cannot tell which requests have read it.
        self._several_groups = len(kv_cache_config.kv_cache_groups) > 1
        in_order = not (
            vllm_config.scheduler_config.async_scheduling
            or vllm_config.use_v2_model_runner
            or self._several_groups
        )
        self._load_in_step = self.config.load_in_step
        if self._load_in_step is None:
            on_cpu = current_platform.is_cpu() and not self.config.copy_thread
            self._load_in_step = on_cpu and in_order
        elif self._load_in_step and not in_order:
            raise ConfigurationError(
                "load_in_step works without asynchronous scheduling, with the first model runner "
                "and for models with one KV cache group only; leave it out"
            )
        self._matches: dict[str, _Match] = {}  # of this iteration
        self._batches: dict[int, CopyBatch] = {}
        self._received: set[str] = set()
        self._invalid_blocks: set[int] = set()
        self._failed_loads: set[str] = set()
        self._report = CopyReport()

    @property
    def requires_kv_delivery(self) -> bool:
        """A lost copy costs a recompute, never a token."""
        return False

    @classmethod
    def supports_sleep_mode(cls, kv_transfer_config: object) -> bool:
        """Copies go to and from the KV caches where they were at the start."""
        return False

    @property
    def loads_in_step(self) -> bool:
        """Copies are part of an iteration, and lengthen it, instead of running beside it."""
        return bool(self._load_in_step)

    # Scheduler

    def bind_kv_cache_manager(self, kv_cache_manager: "KVCacheManager") -> None:
        """Plan copies for its pool. Without host memory there are no slots to copy to."""
        super().bind_kv_cache_manager(kv_cache_manager)
        self._block_size = kv_cache_manager.coordinator.scheduler_block_size
        groups = groups_of(kv_cache_manager.coordinator)
        events, told = HostEvents(), self._vllm_config.kv_events_config
        if told is not None and told.enable_kv_cache_events and groups.count == 1:
            events = PublishedHostEvents(self._block_size, self.num_slots)
        self.transfers = Transfers(
            kv_cache_manager.block_pool,
            HostPool(self.num_slots, events),
            self._budget_blocks,
            self._num_workers,
            groups,
        )

    def set_xfer_handshake_metadata(
        self, metadata: dict[int, KVConnectorHandshakeMetadata]
    ) -> None:
        """Take the number of slots that each worker has: a block has its slot on all of them."""
        ranks = [rank for rank in metadata.values() if isinstance(rank, HostSlots)]
        self.num_slots = min([self.num_slots, *(rank.num_slots for rank in ranks)])
        self.transfers.host.limit(self.num_slots)

    def get_num_new_matched_tokens(
        self, request: "Request", num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        """Tokens after the locally cached ones that have a host copy, and whether they are
        loaded before the request is scheduled (else in the iteration that schedules it). None
        while loads that were begun ahead of the request are under way.

        With several KV cache groups they end where all groups can go on.
        """
        if self.transfers.loads.has_failed(request.request_id):
            return 0, False
        if self.transfers.prefetches.awaited_by(request.request_id):
            return None, False  # found on the device in a moment
        first = num_computed_tokens // self._block_size
        # The last token is always computed: its logits give the next one.
        groups, host = self.transfers.groups, self.transfers.host
        boundaries = groups.boundaries(request.block_hashes)
        stop = min((request.num_tokens - 1) // self._block_size, boundaries)
        end = groups.reach(host.is_filled, request.block_hashes, first, stop)
        if end <= first:
            return 0, False
        self._drop_match(request.request_id)
        keys = groups.keys(request.block_hashes, first, end)
        for key in keys:
            # Making room for the request may copy others out: not over what it is to load.
            host.pin(key)
        self._matches[request.request_id] = _Match(first, end, keys)
        return (end - first) * self._block_size, not self._loads_in_step(len(keys))

    def _loads_in_step(self, num_blocks: int) -> bool:
        return bool(self._load_in_step) and num_blocks <= self._budget_blocks

    def update_state_after_alloc(
        self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int
    ) -> None:
        """Queue the loads into the blocks that were allocated for them."""
        if num_external_tokens == 0:
            self.transfers.loads.forgive(request.request_id)
            self.transfers.saves.release(request.request_id)
            return
        match = self._matches[request.request_id]
        assert (match.end - match.first) * self._block_size == num_external_tokens
        tables = blocks.get_block_ids()
        block_ids = self.transfers.groups.pick(tables, match.first, match.end)
        if self._loads_in_step(len(match.keys)):
            self.transfers.urgent_loads.start(match.keys, block_ids)
        else:
            self.transfers.loads.start(request.request_id, match.keys, block_ids)
        self.transfers.saves.release(request.request_id)
        self._drop_match(request.request_id)

    def _drop_match(self, request_id: str) -> None:
        """Rely no longer on the copies that were found for a request."""
        match = self._matches.pop(request_id, None)
        if match is not None:
            self.transfers.host.unpin(match.keys)

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> CopyMetadata:
        """The copies of this iteration."""
        for request_id in list(self._matches):
            self._drop_match(request_id)
        tokens = scheduler_output.total_num_scheduled_tokens
        return CopyMetadata(self.transfers.next_batch(tokens))

    def update_connector_output(self, connector_output: KVConnectorOutput) -> None:
        """Take the workers' reports."""
        report = connector_output.kv_connector_worker_meta
        if isinstance(report, CopyReport):
            self.transfers.finish_batches(report.completed, report.failed)
            self.transfers.observe_speed(report.copied_blocks, report.copy_seconds)
        self.transfers.loads.end(connector_output.finished_recving or set())

    def request_finished(
        self, request: "Request", block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        """A request is over; its blocks need not wait for any copy."""
        self.transfers.loads.forgive(request.request_id)
        self.transfers.saves.release(request.request_id)
        return False, None

    def request_finished_all_groups(
        self, request: "Request", block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        """The same; vLLM keeps its hybrid KV cache manager for connectors with this method."""
        return self.request_finished(request, [])

    def has_pending_push_work(self) -> bool:
        """Keep the engine stepping while copies are queued or under way."""
        return self.transfers.pending

    def reset_cache(self) -> bool:
        """Forget all host copies; False if some are being written or read just now."""
        self.transfers.host.clear_unpinned()
        left = self.transfers.host.used_slots
        if left:
            logger.warning("%d host blocks are being copied: reset the cache again later", left)
        return left == 0

    # Workers

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Allocate this rank's host memory."""
        self._tell_of_windows()
        if self.num_slots == 0:
            return
        regions = device_regions(kv_caches, self._kv_cache_config)
        self._block_bytes = row_bytes(regions)
        self.num_slots = self._host_memory // self._block_bytes
        if self.num_slots == 0:
            return
        self._backend = make_backend(regions, self.num_slots, self.config.copy_thread)
        logger.info(
            "Caesura: %d host blocks of %d bytes on this rank", self.num_slots, self._block_bytes
        )

    def _tell_of_windows(self) -> None:
        config = self._vllm_config
        if (
            config.scheduler_config.disable_hybrid_kv_cache_manager
            and not config.parallel_config.rank
        ):
            note = window_note(get_kv_cache_spec(config), config.model_config.max_model_len)
            if note is not None:
                logger.warning("Caesura: %s", note)

    def get_handshake_metadata(self) -> HostSlots:
        """What the scheduler has to know of this rank."""
        return HostSlots(self.num_slots)

    def handle_preemptions(self, kv_connector_metadata: KVConnectorMetadata) -> None:
        """Before anything of this iteration is computed: copy out what it overwrites.

        `start_load_kv` would be too late: vLLM calls it after the forward pass in iterations
        whose computation reads no load.
        """
        assert isinstance(kv_connector_metadata, CopyMetadata)
        if kv_connector_metadata.batch is not None and self._backend is not None:
            self._backend.save(kv_connector_metadata.batch)

    def start_load_kv(self, forward_context: "ForwardContext", **kwargs: Any) -> None:
        """Start this iteration's loads."""
        batch = self._batch()
        if batch is not None and self._backend is not None:
            self._batches[batch.id] = batch
            self._backend.start_loads(batch)

    def wait_for_save(self) -> None:
        """Start this iteration's copies out."""
        batch = self._batch()
        if batch is not None and self._backend is not None:
            self._backend.start_stores(batch)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Loads are never waited for: the request is scheduled when they are complete."""

    def save_kv_layer(
        self,
        layer_name: str,
        kv_layer: torch.Tensor,
        attn_metadata: "AttentionMetadata",
        **kwargs: Any,
    ) -> None:
        """Copies out are by block, not by layer."""

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        """Requests whose loads are complete. A failed load is reported too: its blocks as invalid
        ones, or, with several KV cache groups, the request as one to be computed from its start."""
        if self._backend is None:
            return KVConnectorTransferResults()
        finished = self._backend.poll()
        self._report.copied_blocks += finished.copied_blocks
        self._report.copy_seconds += finished.copy_seconds
        received: set[str] = set()
        for batch_id in finished.completed:
            received.update(self._batches.pop(batch_id).finished_loads)
            self._report.completed[batch_id] = 1
        for batch_id in finished.failed:
            batch = self._batches.pop(batch_id)
            received.update(batch.finished_loads)
            if self._several_groups:
                self._failed_loads.update(batch.loading)
            else:
                self._invalid_blocks.update(block for _, block in batch.urgent_loads + batch.loads)
            self._report.failed[batch_id] = 1
        failed = received & self._failed_loads
        self._failed_loads -= failed
        return KVConnectorTransferResults(finished_recving=received, failed_recving=failed)

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Blocks whose load failed: vLLM computes them again."""
        invalid, self._invalid_blocks = self._invalid_blocks, set()
        return invalid

    def build_connector_worker_meta(self) -> CopyReport | None:
        """This rank's report."""
        if not (self._report.completed or self._report.failed):
            return None
        report, self._report = self._report, CopyReport()
        return report

    def shutdown(self) -> None:
        """Wait for copies under way."""
        if self._backend is not None:
            self._backend.shutdown()
            self._backend = None

    def _batch(self) -> CopyBatch | None:
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, CopyMetadata)
        return metadata.batch

    # Metrics

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> KVConnectorStats:
        """Rebuild stats on the other side of a process boundary."""
        return PauseStats(data=data or {})

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: VllmConfig,
        metric_types: dict[type[PromMetric], type[PromMetricT]],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> KVConnectorPromMetrics:
        """Register the metrics."""
        return PausePrometheus(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    def take_events(self) -> Iterable[KVCacheEvent]:
        """Events of host copies, where vLLM publishes any."""
        return self.transfers.host.events.take()


def transfers_of(manager: "KVCacheManager", connector: CaesuraConnector | None) -> Transfers:
    """The copies of an engine: its connector's, or none, since there is no host memory."""
    if connector is not None:
        return connector.transfers
    groups = groups_of(manager.coordinator)
    return Transfers(manager.block_pool, HostPool(0), budget_blocks=0, groups=groups)


def own_connector(connector: KVConnectorBase_V1 | None) -> CaesuraConnector | None:
    """Caesura's connector: the one given, or one of those in a MultiConnector."""
    among = getattr(connector, "sub_connectors", (connector,))
    return next((each for each in among if isinstance(each, CaesuraConnector)), None)


def add_own_stats(
    step: SchedulerStats, connector: KVConnectorBase_V1 | None, own: PauseStats
) -> None:
    """Put Caesura's statistics into a step's: beside those of others in a MultiConnector."""
    alone = isinstance(connector, CaesuraConnector)
    others = step.kv_connector_stats or {}
    step.kv_connector_stats = own.to_dict() if alone else others | {CONNECTOR_CLASS: own.to_dict()}


# A MultiConnector looks up whose statistics it has by name.
KVConnectorFactory.register_connector(CONNECTOR_CLASS, CONNECTOR_MODULE, CONNECTOR_CLASS)
