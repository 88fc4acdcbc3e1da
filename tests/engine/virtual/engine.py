"""vLLM's engine core in virtual time: the production scheduler on a virtual device.

It steps as the engine core does, with one step or two in flight. Nothing sleeps: a step
advances the clock.
"""

import hashlib
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import gcd, lcm
from typing import Any
from unittest.mock import patch

import vllm.envs
from vllm.config import KVEventsConfig, KVTransferConfig, VllmConfig
from vllm.lora.request import LoRARequest
from vllm.multimodal.inputs import MultiModalFeatureSpec
from vllm.sampling_params import SamplingParams
from vllm.utils.math_utils import cdiv
from vllm.v1.core.kv_cache_utils import (
    BlockHash,
    BlockHashWithGroupId,
    generate_block_hash_extra_keys,
    get_block_hash,
    get_group_id,
)
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.kv_cache_interface import (
    AttentionSpec,
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    SlidingWindowSpec,
)
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from caesura.engine.config import SECTION, block_bytes
from caesura.engine.connector import own_connector
from caesura.engine.flags import kv_transfer_config
from caesura.engine.protocol import ENDPOINT_ARGUMENT
from caesura.engine.scheduler import InterceptScheduler
from caesura.lab.models.noise_model import demo_model_path
from caesura.lab.sim.vllm_config import base_config, kv_cache_config, scheduler_config
from caesura.lab.sim.vllm_engine import VirtualClockScheduler
from engine.virtual.device import (
    CopyBehaviour,
    Group,
    Launched,
    VirtualDevice,
    content,
    extend_chain,
)
from engine.virtual.runners import RunnerVersion

BLOCK_SIZE = 16
FIRST_SECONDS = 1000.0


@dataclass(frozen=True, slots=True)
class Shape:
    """An engine: its size, its pipeline and its options.

    Attributes:
        blocks: device blocks that requests can use (one more is vLLM's null block).
        in_flight: steps under way at most: 1 is synchronous, 2 asynchronous scheduling.
        connected: a connector is configured.
        host_blocks: host slots; 0 without a connector.
        budget_blocks: blocks copied per step at most.
        queue: vLLM's scheduling policy, "fcfs" or "priority".
        beside: configuration of another connector; None for none.
        kv_events: indexes of KV blocks are told of them.
        windows: sliding windows of further KV cache groups, in tokens.
        chunked: these are chunks, and do not slide.
        window_block_size: tokens of a block of those groups.
        retention_tokens: vLLM's `prefix_cache_retention_interval`.
        options: Caesura's options beside those that follow from the rest.
    """

    blocks: int = 48
    max_num_seqs: int = 4
    max_num_batched_tokens: int = 64
    max_model_len: int = 256
    in_flight: int = 1
    runner: RunnerVersion = RunnerVersion.V1
    connected: bool = False
    host_blocks: int = 0
    budget_blocks: int = 4
    queue: str = "fcfs"
    beside: Mapping[str, Any] | None = None
    kv_events: bool = False
    windows: tuple[int, ...] = ()
    chunked: bool = False
    window_block_size: int = BLOCK_SIZE
    retention_tokens: int | None = 0
    copies: CopyBehaviour = field(default_factory=CopyBehaviour)
    options: dict[str, object] = field(default_factory=lambda: {"policy": "preserve"})

    def __post_init__(self) -> None:
        assert self.blocks >= self.most_blocks, "a request must fit the pool"

    @property
    def most_blocks(self) -> int:
        """Blocks that one request has at most."""
        longest = cdiv(self.max_model_len, BLOCK_SIZE)
        reached = self.max_num_batched_tokens * self.in_flight - 1
        windows = [cdiv(window + reached, self.window_block_size) + 1 for window in self.windows]
        all_of_it = cdiv(self.max_model_len, self.window_block_size)
        return longest + sum(min(all_of_it, blocks) for blocks in windows)

    @property
    def groups(self) -> list[Group]:
        """The KV cache groups."""
        size = self.window_block_size
        if self.chunked:
            return [Group(BLOCK_SIZE), *(Group(size, chunk=chunk) for chunk in self.windows)]
        return [Group(BLOCK_SIZE), *(Group(size, window) for window in self.windows)]


@cache
def _structured_output_manager() -> StructuredOutputManager:
    return StructuredOutputManager(base_config(str(demo_model_path()), BLOCK_SIZE))


def grouped(config: KVCacheConfig, shape: Shape) -> KVCacheConfig:
    """The same memory for layers of full attention and others with the shape's windows."""
    full = config.kv_cache_groups[0].kv_cache_spec
    assert isinstance(full, FullAttentionSpec)
    for number, window in enumerate(shape.windows):
        kind: type[AttentionSpec] = SlidingWindowSpec
        size = {"sliding_window": window}
        if shape.chunked:
            kind, size = ChunkedLocalAttentionSpec, {"attention_chunk_size": window}
        spec = kind(
            block_size=shape.window_block_size,
            num_kv_heads=full.num_kv_heads,
            head_size=full.head_size,
            dtype=full.dtype,
            **size,
        )
        config.kv_cache_groups.append(KVCacheGroupSpec([f"window-{number}"], spec))
    if shape.windows:
        config.prefix_cache_retention_interval = shape.retention_tokens
    return config


def vllm_config(shape: Shape, cache_config: KVCacheConfig) -> VllmConfig:
    """vLLM's configuration of an engine of that shape."""
    config = scheduler_config(
        str(demo_model_path()),
        BLOCK_SIZE,
        cache_config,
        max_num_seqs=shape.max_num_seqs,
        max_num_batched_tokens=shape.max_num_batched_tokens,
        max_model_len=shape.max_model_len,
        asynchronous=shape.in_flight > 1,
        queue=shape.queue,
    )
    page = block_bytes(cache_config)
    if shape.connected:
        config.kv_transfer_config = KVTransferConfig(**kv_transfer_config(shape.beside))
    config.kv_events_config = KVEventsConfig(
        enable_kv_cache_events=shape.kv_events, publisher="null"
    )
    config.additional_config = {
        SECTION: {
            "host_memory": shape.host_blocks * page,
            "copy_budget": shape.budget_blocks * page,
            "load_in_step": False,
            **shape.options,
        }
    }
    return config


class VirtualEngine:
    """vLLM's engine core around a virtual device.

    Args:
        shape: what engine.
        rng: decides what the device leaves open.
        stock: vLLM's own scheduler instead of ours.
    """

    def __init__(self, shape: Shape, rng: random.Random, *, stock: bool = False) -> None:
        self.shape = shape
        self.now_seconds = FIRST_SECONDS
        self.aborts: list[str] = []
        self.on_schedule: Callable[[SchedulerOutput], None] | None = None
        cache_config = grouped(kv_cache_config(shape.blocks + 1, BLOCK_SIZE), shape)
        config = vllm_config(shape, cache_config)
        block_sizes = [group.block_size for group in shape.groups]
        sizes = lcm(*block_sizes), gcd(*block_sizes)
        arguments = (config, cache_config, _structured_output_manager(), *sizes)
        with patch.object(vllm.envs, "VLLM_USE_V2_MODEL_RUNNER", shape.runner is RunnerVersion.V2):
            self.scheduler: AsyncScheduler = (
                AsyncScheduler(*arguments)
                if stock
                else VirtualClockScheduler(*arguments, clock=lambda: self.now_seconds)
            )
        assert self.scheduler.use_v2_model_runner == (shape.runner is RunnerVersion.V2)
        self.device = VirtualDevice(
            shape.blocks + 1,
            shape.groups,
            shape.host_blocks,
            shape.max_num_seqs,
            shape.runner,
            asynchronous=shape.in_flight > 1,
            copies=shape.copies,
            rng=rng,
        )
        self._queue: deque[tuple[SchedulerOutput, Launched]] = deque()
        self._contents: dict[BlockHash, list[int]] = {}
        self._rng = rng

    def request(
        self,
        request_id: str,
        prompt: Sequence[int],
        *,
        max_tokens: int,
        stop_tokens: Sequence[int] = (),
        resumable: bool = False,
        session_id: str | None = None,
        endpoint: str | None = None,
        priority: int = 0,
        extra_args: dict[str, object] | None = None,
        stop: Sequence[str] = (),
        media: Sequence[MultiModalFeatureSpec] = (),
        adapter: LoRARequest | None = None,
    ) -> Request:
        """A request that arrives now."""
        named = {ENDPOINT_ARGUMENT: endpoint} if endpoint else {}
        return Request(
            request_id=request_id,
            prompt_token_ids=list(prompt),
            sampling_params=SamplingParams(
                max_tokens=max_tokens,
                stop_token_ids=list(stop_tokens),
                stop=list(stop),
                extra_args=named | (extra_args or {}) or None,
            ),
            pooling_params=None,
            arrival_time=self.now_seconds,
            priority=priority,
            block_hasher=self._hash_blocks,
            resumable=resumable,
            session_id=session_id,
            mm_features=list(media),
            lora_request=adapter,
        )

    def has_work(self) -> bool:
        """Whether the engine core would step."""
        return self.scheduler.has_requests() or bool(self._queue)

    def step(self) -> list[EngineCoreOutput]:
        """Step once; with several steps in flight there may be no output yet."""
        if self.scheduler.has_requests():
            output = self.scheduler.schedule()
            if self.on_schedule is not None:
                self.on_schedule(output)
            self._queue.append((output, self.device.launch(output)))
            self.now_seconds += 0.004 + 1e-4 * output.total_num_scheduled_tokens
            executed = output.total_num_scheduled_tokens > 0
            if len(self._queue) < self.shape.in_flight and (
                executed or self.scheduler.has_requests()
            ):
                return []
        output, launched = self._queue.popleft()
        result = self.device.result(launched)
        aborts, self.aborts = self.aborts, []
        if aborts:
            self.scheduler.finish_requests(aborts, RequestStatus.FINISHED_ABORTED)
        outputs = self.scheduler.update_from_output(output, result)
        return _flat(outputs)

    def _hash_blocks(self, request: Request) -> list[BlockHash]:
        """Hashes of a request's new full blocks: what the last slot of each must hold, and what
        vLLM hashes beside tokens (media, adapters), if there is any up to there."""
        hashes: list[BlockHash] = []
        beside = request.block_hashes[-1][8:] if request.block_hashes else b""
        most = max(group.block_size for group in self.shape.groups)
        chain = list(self._contents[request.block_hashes[-1]]) if request.block_hashes else []
        start = len(request.block_hashes) * BLOCK_SIZE
        for first in range(start, request.num_tokens - BLOCK_SIZE + 1, BLOCK_SIZE):
            extend_chain(chain, request.all_token_ids[first : first + BLOCK_SIZE])
            keys, _ = generate_block_hash_extra_keys(request, first, first + BLOCK_SIZE, 0)
            if keys is not None:
                beside = hashlib.sha256(beside + repr(keys).encode()).digest()
            block_hash = BlockHash(chain[-1].to_bytes(8) + beside)
            self._contents[block_hash] = chain[-most:]
            hashes.append(block_hash)
        return hashes

    def check_contents(self) -> None:
        """When nothing is under way: what can be found by its hash is what the hash says."""
        if self._queue or self.device.copying:
            return
        for block in self.scheduler.kv_cache_manager.block_pool.blocks:
            if block.block_hash is not None:
                expected = self._content(block.block_hash)
                found = self.device.blocks[block.block_id][: len(expected)]
                assert found == expected, f"{block} is not its hash"
        if (connector := own_connector(self.scheduler.connector)) is not None:
            transfers = connector.transfers
            for key, slot in transfers.host._slots.items():
                if slot.filled:
                    expected = self._content(transfers.groups.device_key(key))
                    found = self.device.host[slot.index][: len(expected)]
                    assert found == expected, f"host slot {slot} is not its hash"

    def _content(self, key: BlockHashWithGroupId) -> list[int]:
        """What a block holds that is found by this key."""
        group = get_group_id(key)
        size = self.shape.groups[group].block_size
        return content(self._contents[get_block_hash(key)][-size:], group)

    def idle_books(self) -> None:
        """At the end: nothing is left of anybody, on the device, in host memory, anywhere."""
        scheduler = self.scheduler
        assert isinstance(scheduler, InterceptScheduler)
        assert not self.has_work()
        scheduler.check_idle()
        for pause in list(scheduler.keeper.table):
            scheduler.keeper.cancel(pause)
        scheduler.check_idle()
        pool = scheduler.kv_cache_manager.block_pool
        assert pool.get_num_free_blocks() == self.shape.blocks, "device blocks are lost"
        if (connector := own_connector(scheduler.connector)) is not None:
            host = connector.transfers.host
            assert host.pinned_slots == 0, "host slots stay pinned"
            assert host.available_slots == self.shape.host_blocks, "slots are lost"
        failed = [
            kind for kind, each in scheduler.metrics.guard._catchers.items() if each._is_logged
        ]
        assert not failed, "work beside the engine's failed"
        assert not scheduler._inflight_prefills
        assert not scheduler.deferred_waiting
        self.device.launch(scheduler.schedule())  # tells the runner who is gone
        assert self.device.runner.slots_used() == 0, "the model runner keeps requests"


def _flat(outputs: dict[int, EngineCoreOutputs]) -> list[EngineCoreOutput]:
    return [output for of_client in outputs.values() for output in of_client.outputs]
