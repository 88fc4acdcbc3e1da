"""Blocks of vLLM's pool and requests, without an engine. A block's content is a letter."""

from collections.abc import Sequence

from vllm.sampling_params import SamplingParams
from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import BlockHash, KVCacheBlock, make_block_hash_with_group_id
from vllm.v1.request import Request

from caesura.engine.copies.blocks import ContextBlocks, full_blocks

BLOCK_SIZE = 16


def new_pool(blocks: int) -> BlockPool:
    """A pool of so many blocks; one more is vLLM's null block."""
    return BlockPool(blocks + 1, enable_caching=True, hash_block_size=BLOCK_SIZE)


def hashes(letters: str) -> list[BlockHash]:
    """The hash of each block."""
    return [BlockHash(letter.encode()) for letter in letters]


def computed(pool: BlockPool, letters: str) -> list[KVCacheBlock]:
    """Blocks with one reference each, which can be found by their hashes."""
    blocks = pool.get_new_blocks(len(letters))
    for position, (block, block_hash) in enumerate(zip(blocks, hashes(letters), strict=True), 1):
        key = make_block_hash_with_group_id(block_hash, 0)
        pool._insert_block_hash(key, block, num_tokens=position * BLOCK_SIZE)
    return blocks


def context(blocks: Sequence[KVCacheBlock]) -> ContextBlocks:
    """A context with one KV cache group, as far as it can be found again."""
    full = full_blocks(blocks)
    return ContextBlocks((full,), full, len(full) * BLOCK_SIZE)


def found(pool: BlockPool, letters: str) -> str:
    """The letters of the blocks that can be found by their hashes."""
    return "".join(
        letter
        for letter, block_hash in zip(letters, hashes(letters), strict=True)
        if pool.get_cached_block(block_hash, [0])
    )


def new_request(
    request_id: str, tokens: int = 20, arrival_seconds: float = 0.0, max_tokens: int = 8
) -> Request:
    """A request that waits."""
    return Request(
        request_id=request_id,
        prompt_token_ids=[1] * tokens,
        sampling_params=SamplingParams(max_tokens=max_tokens),
        pooling_params=None,
        arrival_time=arrival_seconds,
    )
