"""The block tables of requests, and what of a context the prefix cache can find again."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from vllm.v1.core.kv_cache_coordinator import KVCacheCoordinator
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import BlockHash, KVCacheBlock, make_block_hash_with_group_id
from vllm.v1.request import Request

from caesura.engine.copies.blocks import ContextBlocks, Tables, full_blocks, real_blocks
from caesura.engine.copies.groups import Groups, OneGroup, SeveralGroups


class BlockTables(Protocol):
    """Reads the block tables of an engine's requests."""

    def of(self, request_id: str) -> Tables:
        """A request's own tables; they change with it."""

    def real(self, tables: Tables) -> Sequence[KVCacheBlock]:
        """Their blocks, without vLLM's null block."""

    def trim(self, request: Request, computed_tokens: int) -> None:
        """A request pauses: give back what none of its windows reaches any more."""

    def findable(
        self,
        tables: Tables,
        request_id: str | None,
        block_hashes: Sequence[BlockHash],
        tokens: int,
    ) -> ContextBlocks:
        """What the prefix cache can find again of a context, in its own blocks or in others.

        Args:
            tables: its blocks.
            request_id: the request whose own tables they are, None if it is gone.
            block_hashes: hash of each full block.
            tokens: leading tokens that are computed.
        """

    def own(
        self,
        tables: Tables,
        request_id: str | None,
        block_hashes: Sequence[BlockHash],
        tokens: int,
    ) -> ContextBlocks:
        """The same in its own blocks only: they stay what they are as long as it is held.

        Others with the same hashes may be given back and overwritten at any time.
        """

    def front(
        self, context: ContextBlocks, block_hashes: Sequence[BlockHash], tokens: int
    ) -> ContextBlocks:
        """The same context up to the last boundary within so many tokens."""

    def extended(
        self,
        context: ContextBlocks | None,
        blocks: list[KVCacheBlock],
        block_hashes: Sequence[BlockHash],
        tokens: int,
    ) -> ContextBlocks:
        """A context with blocks that were loaded, up to so many tokens."""

    def is_being_computed(self, context: ContextBlocks, running: Iterable[Request]) -> bool:
        """Whether the step that is being scheduled is to fill any of the blocks: vLLM lets them
        be found before."""


class OneTable:
    """Of models with one group of full attention."""

    def __init__(self, coordinator: KVCacheCoordinator) -> None:
        self._coordinator = coordinator
        self._block_size = coordinator.scheduler_block_size

    def of(self, request_id: str) -> Tables:
        """Its only table."""
        return self._coordinator.get_blocks(request_id)

    def real(self, tables: Tables) -> Sequence[KVCacheBlock]:
        """All: full attention needs every block."""
        return tables[0]

    def trim(self, request: Request, computed_tokens: int) -> None:
        """Every block is reached."""

    def findable(
        self,
        tables: Tables,
        request_id: str | None,
        block_hashes: Sequence[BlockHash],
        tokens: int,
    ) -> ContextBlocks:
        """The leading full blocks."""
        return self._context(full_blocks(tables[0]))

    own = findable

    def front(
        self, context: ContextBlocks, block_hashes: Sequence[BlockHash], tokens: int
    ) -> ContextBlocks:
        """The leading blocks."""
        return self._context(context.blocks[: tokens // self._block_size])

    def extended(
        self,
        context: ContextBlocks | None,
        blocks: list[KVCacheBlock],
        block_hashes: Sequence[BlockHash],
        tokens: int,
    ) -> ContextBlocks:
        """The loaded blocks follow."""
        return self._context(blocks if context is None else context.blocks + blocks)

    def is_being_computed(self, context: ContextBlocks, running: Iterable[Request]) -> bool:
        """None is: they are the context's own."""
        return False

    def _context(self, blocks: list[KVCacheBlock]) -> ContextBlocks:
        return ContextBlocks((blocks,), blocks, len(blocks) * self._block_size)


class SeveralTables:
    """Of models with windows: what a boundary needs is asked of vLLM's coordinator.

    vLLM enters few blocks of windows into the prefix cache (`prefix_cache_retention_interval`),
    none of those that were generated. A context that pauses is expected back, so those that its
    windows reach are entered here.
    """

    def __init__(self, coordinator: KVCacheCoordinator, groups: SeveralGroups) -> None:
        self._coordinator = coordinator
        self._groups = groups
        self._pool = coordinator.block_pool
        self._block_size = coordinator.scheduler_block_size

    def of(self, request_id: str) -> Tables:
        """A table for each group."""
        return self._coordinator.get_blocks(request_id)

    def real(self, tables: Tables) -> Sequence[KVCacheBlock]:
        """Blocks of all groups that windows reach."""
        return real_blocks(tables)

    def trim(self, request: Request, computed_tokens: int) -> None:
        """Keep what the last full block needs to be found again, and what computing the last
        token once more does."""
        last = computed_tokens // self._block_size * self._block_size
        reached = min(last, computed_tokens - 1) - request.num_in_flight_tokens
        self._coordinator.remove_skipped_blocks(
            request.request_id, max(0, reached), request.num_prompt_tokens
        )

    def findable(
        self,
        tables: Tables,
        request_id: str | None,
        block_hashes: Sequence[BlockHash],
        tokens: int,
    ) -> ContextBlocks:
        """The last boundary at which all groups can go on."""
        own = self.own(tables, request_id, block_hashes, tokens)
        if own.tokens > tokens - self._block_size:
            return own
        found = self._find(block_hashes, tokens)
        return found if found.tokens > own.tokens else own

    def own(
        self,
        tables: Tables,
        request_id: str | None,
        block_hashes: Sequence[BlockHash],
        tokens: int,
    ) -> ContextBlocks:
        """The last boundary for which the context's tables have all that is needed."""
        if request_id is not None:
            self._enter(request_id, block_hashes, tokens)
        hashed = {block.block_hash for table in tables for block in table}
        stop = min(self._groups.boundaries(block_hashes), tokens // self._block_size)
        end = self._groups.reach(
            lambda key: self._groups.device_key(key) in hashed, block_hashes, 0, stop
        )
        needed = self._groups.needed(tables, end, self._pool.null_block)
        return ContextBlocks(needed, real_blocks(needed), end * self._block_size)

    def front(
        self, context: ContextBlocks, block_hashes: Sequence[BlockHash], tokens: int
    ) -> ContextBlocks:
        """The last boundary before that: most have no windows any more."""
        return context if tokens >= context.tokens else self._find(block_hashes, tokens)

    def extended(
        self,
        context: ContextBlocks | None,
        blocks: list[KVCacheBlock],
        block_hashes: Sequence[BlockHash],
        tokens: int,
    ) -> ContextBlocks:
        """What can be found, now that the blocks can be; no less than there was."""
        found = self._find(block_hashes, tokens)
        return found if context is None or found.tokens > context.tokens else context

    def is_being_computed(self, context: ContextBlocks, running: Iterable[Request]) -> bool:
        """Another request may fill blocks with the same hashes."""
        wanted = {block.block_id for block in context.blocks}
        return any(
            block.block_id in wanted
            for request in running
            for manager in self._coordinator.single_type_managers
            for block in manager.req_to_blocks.get(request.request_id, ())[
                request.num_computed_tokens // manager.block_size :
            ]
        )

    def _find(self, block_hashes: Sequence[BlockHash], tokens: int) -> ContextBlocks:
        tables, found, _ = self._coordinator.find_longest_cache_hit(list(block_hashes), tokens)
        return ContextBlocks(tables, real_blocks(tables), found)

    def _enter(self, request_id: str, block_hashes: Sequence[BlockHash], tokens: int) -> None:
        """Let computed blocks be found that vLLM has passed over."""
        for group, manager in enumerate(self._coordinator.single_type_managers):
            blocks = manager.req_to_blocks.get(request_id, [])
            # What follows vLLM enters, or passes over, itself: it must not be there before.
            passed = min(
                tokens // manager.block_size,
                manager.num_cached_block.get(request_id, 0),
                len(blocks),
            )
            for position in reversed(range(passed)):
                block = blocks[position]
                if block.is_null:
                    break
                if block.block_hash is None:
                    end = (position + 1) * manager.block_size
                    block_hash = block_hashes[end // self._pool.hash_block_size - 1]
                    key = make_block_hash_with_group_id(block_hash, group)
                    self._pool._insert_block_hash(key, block, num_tokens=end)


def block_tables(manager: KVCacheManager, groups: Groups) -> BlockTables:
    """The tables of an engine with these groups."""
    if isinstance(groups, OneGroup):
        return OneTable(manager.coordinator)
    assert isinstance(groups, SeveralGroups)
    return SeveralTables(manager.coordinator, groups)
