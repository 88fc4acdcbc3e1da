"""Holds: references that keep a paused context's blocks on the device.

A hold is soft: releasing it costs time at the resume, never a token. There are two kinds,
with one interface. `OwnBlocks` is the block table of a session that is parked in place: it
also covers the partly filled last block, so a resume recomputes nothing. `References` are
counted references on full blocks, found again by their hash; they remain when the request
that filled the blocks is gone.
"""

from typing import Protocol

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import KVCacheBlock


class Hold(Protocol):
    """Blocks that are kept on the device for a pause."""

    @property
    def tokens(self) -> int:
        """Leading tokens of the context whose KV the hold keeps."""

    def blocks(self) -> list[KVCacheBlock]:
        """The held blocks in context order."""


class References:
    """Counted references on the leading full blocks of a context."""

    def __init__(self, pool: BlockPool, blocks: list[KVCacheBlock], block_size: int) -> None:
        """Take a reference on each block."""
        self._pool = pool
        self._blocks = blocks
        self._block_size = block_size
        pool.touch(blocks)

    @property
    def tokens(self) -> int:
        """Leading tokens of the context whose KV is held."""
        return len(self._blocks) * self._block_size

    def blocks(self) -> list[KVCacheBlock]:
        """The held blocks in context order."""
        return self._blocks

    def extend(self, blocks: list[KVCacheBlock]) -> None:
        """Take references on the full blocks that follow."""
        self._pool.touch(blocks)
        self._blocks = self._blocks + blocks

    def trim(self, keep_blocks: int) -> None:
        """Give back the references past the first `keep_blocks`; the tail is evicted first."""
        kept, dropped = self._blocks[:keep_blocks], self._blocks[keep_blocks:]
        self._blocks = kept
        self._pool.free_blocks(reversed(dropped))


class OwnBlocks:
    """The block table of a parked session, partial last block included."""

    def __init__(self, blocks: list[KVCacheBlock], tokens: int) -> None:
        self._blocks = blocks
        self._tokens = tokens

    @property
    def tokens(self) -> int:
        """Tokens of the context whose KV is held."""
        return self._tokens

    def blocks(self) -> list[KVCacheBlock]:
        """The held blocks in context order."""
        return self._blocks
