"""Blocks of vLLM's pool: which can be found again, and which nobody else references."""

from collections.abc import Sequence

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import KVCacheBlock


def full_blocks(blocks: Sequence[KVCacheBlock]) -> list[KVCacheBlock]:
    """The leading blocks that the prefix cache can find again (full and hashed)."""
    for index, block in enumerate(blocks):
        if block.block_hash is None or block.is_null:
            return list(blocks[:index])
    return list(blocks)


def sole_blocks(blocks: Sequence[KVCacheBlock]) -> list[KVCacheBlock]:
    """The blocks with a single reference: what giving that reference back would free."""
    return [block for block in blocks if block.ref_cnt == 1]


def forget_blocks(pool: BlockPool, blocks: Sequence[KVCacheBlock]) -> None:
    """Remove blocks that have no reference left from the prefix cache, to be reused first."""
    idle = [block for block in blocks if block.ref_cnt == 0 and block.block_hash is not None]
    if not idle:
        return
    pool.evict_blocks({block.block_id for block in idle})
    for block in idle:
        pool.free_block_queue.remove(block)
    pool.free_block_queue.prepend_n(idle)
