"""Blocks of vLLM's pool: which can be found again, and which nobody else references."""

from collections.abc import Sequence
from dataclasses import dataclass

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import KVCacheBlock

Tables = Sequence[Sequence[KVCacheBlock]]
"""The blocks of a context in each KV cache group, in context order."""


@dataclass(frozen=True, slots=True)
class ContextBlocks:
    """Device blocks with which a context can go on at a boundary, in every group.

    Attributes:
        tables: each group's blocks; vLLM's null block where none is needed.
        blocks: all of them but null blocks.
        tokens: the boundary: leading tokens of the context, full blocks.
    """

    tables: Tables
    blocks: list[KVCacheBlock]
    tokens: int


def full_blocks(blocks: Sequence[KVCacheBlock]) -> list[KVCacheBlock]:
    """The leading blocks that the prefix cache can find again (full and hashed)."""
    for index, block in enumerate(blocks):
        if block.block_hash is None or block.is_null:
            return list(blocks[:index])
    return list(blocks)


def real_blocks(tables: Tables) -> list[KVCacheBlock]:
    """The blocks of all groups that are not vLLM's null block."""
    return [block for table in tables for block in table if not block.is_null]


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
