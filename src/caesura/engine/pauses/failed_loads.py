"""What was never computed, or computed from loads that failed, must be found by nobody.

vLLM enters blocks into the prefix cache when it schedules the step that fills them. Loads fail
block by block in models with one KV cache group only; with several, a request that waits for its
loads computes everything again (`connector.py`).
"""

from collections.abc import Iterable

from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.request import Request


def hide_uncomputed(manager: KVCacheManager, request: Request) -> None:
    """A request is preempted: under priority scheduling perhaps by the very step that was to
    fill its last blocks."""
    tables = manager.get_block_ids(request.request_id)
    for group, blocks in zip(manager.coordinator.single_type_managers, tables, strict=True):
        manager.evict_blocks(set(blocks[request.num_computed_tokens // group.block_size :]))


def hide_failed_loads(
    manager: KVCacheManager, output: SchedulerOutput, invalid_block_ids: set[int]
) -> None:
    """A step has failed to load blocks: hide these, and what it computed from them.

    Requests of the step may be gone by now, so its own record says which blocks they had.
    """
    cached = output.scheduled_cached_reqs
    tables = [data.block_ids[0] for data in output.scheduled_new_reqs]
    tables += [
        blocks[0]
        for request_id, blocks in zip(cached.req_ids, cached.new_block_ids, strict=True)
        if blocks is not None and request_id in cached.resumed_req_ids
    ]
    for blocks in tables:
        first = next((i for i, block in enumerate(blocks) if block in invalid_block_ids), None)
        if first is not None:
            manager.evict_blocks(set(blocks[first:]))


def take_back(
    manager: KVCacheManager,
    requests: Iterable[Request],
    invalid_block_ids: set[int],
    block_size: int,
) -> None:
    """Let running requests go on from before the blocks that failed to load.

    vLLM does so for the first of those that share a block, and lets the others go on.
    """
    for request in requests:
        blocks = manager.get_block_ids(request.request_id)[0]
        valid = next(i for i, block in enumerate(blocks) if block in invalid_block_ids)
        request.num_computed_tokens = valid * block_size
        request.num_output_placeholders = 0
