"""Holds: references that keep a paused context's blocks on the device.

A hold is soft: releasing it costs time at the resume, never a token. There are two kinds,
with one interface. `OwnBlocks` are the block tables of a session that is parked in place: they
also cover the partly filled last block, so a resume recomputes nothing. `References` are
counted references on full blocks, found again by their hash; they remain when the request
that filled the blocks is gone.
"""

from collections.abc import Sequence
from typing import Protocol

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import KVCacheBlock

from caesura.engine.copies.blocks import ContextBlocks, Tables
from caesura.engine.pauses.tables import BlockTables


class Hold(Protocol):
    """Blocks that are kept on the device for a pause."""

    @property
    def tokens(self) -> int:
        """Leading tokens of the context whose KV the hold keeps."""

    @property
    def tables(self) -> Tables:
        """The held blocks of each group in context order, vLLM's null block where none is
        needed."""

    @property
    def began_with(self) -> list[KVCacheBlock]:
        """The blocks that it kept when it began, or moved last."""

    def blocks(self) -> Sequence[KVCacheBlock]:
        """The held blocks of all groups."""


class References:
    """Counted references on the blocks with which a context can go on at a boundary."""

    def __init__(self, pool: BlockPool, context: ContextBlocks) -> None:
        """Take a reference on each block."""
        self._pool = pool
        self.context = context
        pool.touch(context.blocks)

    @property
    def tokens(self) -> int:
        """Leading tokens of the context whose KV is held."""
        return self.context.tokens

    @property
    def tables(self) -> Tables:
        """The held blocks of each group in context order."""
        return self.context.tables

    @property
    def began_with(self) -> list[KVCacheBlock]:
        """The held blocks."""
        return self.context.blocks

    def blocks(self) -> Sequence[KVCacheBlock]:
        """The held blocks of all groups."""
        return self.context.blocks

    def move(self, context: ContextBlocks) -> None:
        """Hold the same context up to another boundary; of what is given back the tail is
        evicted first."""
        self._pool.touch(context.blocks)
        self._pool.free_blocks(reversed(self.context.blocks))
        self.context = context


class OwnBlocks:
    """The block tables of a parked session, partial last block included.

    Args:
        reader: of block tables.
        tables: the session's own. They are read when they are asked for: once it has returned,
            vLLM may take out what its windows pass, and adds what it computes.
        tokens: leading tokens of the context whose KV is held.
    """

    def __init__(self, reader: BlockTables, tables: Tables, tokens: int) -> None:
        self._reader = reader
        self.tables = tables
        self.tokens = tokens
        self.began_with = list(reader.real(tables))

    def blocks(self) -> Sequence[KVCacheBlock]:
        """The held blocks of all groups."""
        return self._reader.real(self.tables)
