"""KV cache groups: which blocks a context needs in each of them to go on at a boundary.

Layers that need the same blocks form a group, and a request has a block table in each group. A
*boundary* is a number of full blocks behind which a context can go on. Full attention needs every
block before it, a sliding window only those that the window reaches, and layers that attend within
chunks those of the last one:

    boundary 6, a window of 2 blocks:   full attention   0 1 2 3 4 5
                                        sliding window   - - - - 4 5

A context is of use at a boundary only if *all* groups have what they need there. Blocks are kept
in host memory by hash and group.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from vllm.v1.core.kv_cache_coordinator import KVCacheCoordinator
from vllm.v1.core.kv_cache_utils import (
    BlockHash,
    BlockHashWithGroupId,
    make_block_hash_with_group_id,
)
from vllm.v1.core.single_type_kv_cache_manager import SingleTypeKVCacheManager
from vllm.v1.kv_cache_interface import FullAttentionSpec

HostKey = bytes
"""What a block in host memory is found by: its hash, with its group if there are several."""

Item = TypeVar("Item")


class Groups(Protocol):
    """The groups of an engine. Boundaries are counted in the scheduler's blocks: those of a group
    may be smaller, and the blocks that hashes are of smaller still."""

    count: int
    """How many there are."""

    prefixes: bool
    """Whether any leading blocks of a context are of use; else all of a boundary, or nothing."""

    def boundaries(self, block_hashes: Sequence[BlockHash]) -> int:
        """How many boundaries a context has that these are all hashes of."""

    def keys(
        self, block_hashes: Sequence[BlockHash], first: int, end: int, *, whole: bool = False
    ) -> list[HostKey]:
        """The keys of what boundary `end` needs besides what boundary `first` needs.

        Args:
            block_hashes: the context's hashes.
            first: the boundary that there is.
            end: the boundary that is wanted.
            whole: with all that windows reach, in case that boundary `first` is lost.
        """

    def pick(
        self, tables: Sequence[Sequence[Item]], first: int, end: int, *, whole: bool = False
    ) -> list[Item]:
        """Entries of each group's table, in the order of `keys`."""

    def hash_ends(self, first: int, end: int) -> list[int]:
        """How many hashes each of the blocks of `keys` ends behind."""

    def reach(
        self,
        has: Callable[[HostKey], bool],
        block_hashes: Sequence[BlockHash],
        first: int,
        stop: int,
    ) -> int:
        """The last boundary up to `stop` for which there is all that boundary `first` lacks;
        `first` if there is none."""

    def memory_blocks(self, end: int) -> int:
        """How many blocks boundary `end` needs."""

    def device_key(self, key: HostKey) -> BlockHashWithGroupId:
        """What vLLM's prefix cache finds the block by."""


class OneGroup:
    """One group of full attention: a boundary needs the blocks before it, and nothing else."""

    count = 1
    prefixes = True

    def boundaries(self, block_hashes: Sequence[BlockHash]) -> int:
        """One for each block."""
        return len(block_hashes)

    def keys(
        self, block_hashes: Sequence[BlockHash], first: int, end: int, *, whole: bool = False
    ) -> list[HostKey]:
        """The hashes of the blocks in between."""
        return list(block_hashes[first:end])

    def pick(
        self, tables: Sequence[Sequence[Item]], first: int, end: int, *, whole: bool = False
    ) -> list[Item]:
        """The entries in between."""
        return list(tables[0][first:end])

    def hash_ends(self, first: int, end: int) -> list[int]:
        """Each block has a hash."""
        return list(range(first + 1, end + 1))

    def reach(
        self,
        has: Callable[[HostKey], bool],
        block_hashes: Sequence[BlockHash],
        first: int,
        stop: int,
    ) -> int:
        """The end of the run of blocks that there are."""
        position = first
        while position < stop and has(block_hashes[position]):
            position += 1
        return position

    def memory_blocks(self, end: int) -> int:
        """Those before it."""
        return end

    def device_key(self, key: HostKey) -> BlockHashWithGroupId:
        """With the number of the only group."""
        return make_block_hash_with_group_id(BlockHash(key), 0)


ONE_GROUP = OneGroup()


class SeveralGroups:
    """Full attention and sliding windows, in several groups.

    Args:
        managers: vLLM's manager of each group, in the order of the groups.
        boundary_tokens: tokens from one boundary to the next.
        hashed_tokens: tokens from one hash to the next.
    """

    prefixes = False

    def __init__(
        self,
        managers: Sequence[SingleTypeKVCacheManager],
        boundary_tokens: int,
        hashed_tokens: int,
    ) -> None:
        self.count = len(managers)
        self._managers = managers
        self._boundary_tokens = boundary_tokens
        self._hashed_tokens = hashed_tokens
        full = [isinstance(manager.kv_cache_spec, FullAttentionSpec) for manager in managers]
        self._full = [group for group, is_full in enumerate(full) if is_full]
        self._windowed = [group for group, is_full in enumerate(full) if not is_full]

    def boundaries(self, block_hashes: Sequence[BlockHash]) -> int:
        """Where blocks of all groups end."""
        return len(block_hashes) * self._hashed_tokens // self._boundary_tokens

    def keys(
        self, block_hashes: Sequence[BlockHash], first: int, end: int, *, whole: bool = False
    ) -> list[HostKey]:
        """Hashes with their groups, group by group."""
        return [
            self._key(block_hashes, group, position)
            for group in range(self.count)
            for position in self._positions(group, first, end, whole)
        ]

    def pick(
        self, tables: Sequence[Sequence[Item]], first: int, end: int, *, whole: bool = False
    ) -> list[Item]:
        """Entries of the tables, group by group."""
        return [
            tables[group][position]
            for group in range(self.count)
            for position in self._positions(group, first, end, whole)
        ]

    def needed(
        self, tables: Sequence[Sequence[Item]], end: int, nothing: Item
    ) -> tuple[list[Item], ...]:
        """Each group's table up to boundary `end`, with `nothing` where no entry is needed."""
        return tuple(
            [nothing] * positions.start + list(table[positions.start : positions.stop])
            for table, positions in zip(
                tables,
                (self._positions(group, 0, end, whole=False) for group in range(self.count)),
                strict=True,
            )
        )

    def hash_ends(self, first: int, end: int) -> list[int]:
        """A block may have several hashes, and is found by the last."""
        return [
            self._hash_end(group, position)
            for group in range(self.count)
            for position in self._positions(group, first, end, whole=False)
        ]

    def reach(
        self,
        has: Callable[[HostKey], bool],
        block_hashes: Sequence[BlockHash],
        first: int,
        stop: int,
    ) -> int:
        """Windows are looked at from the end: a block that lacks ends all boundaries behind it
        whose windows reach it, and they do so up to the end."""

        def lacking(group: int, positions: Iterable[int]) -> int | None:
            """The last boundary before a block that lacks."""
            for position in positions:
                if not has(self._key(block_hashes, group, position)):
                    return position * self._managers[group].block_size // self._boundary_tokens
            return None

        end = stop
        for group in self._full:
            found = lacking(group, self._positions(group, first, end, whole=False))
            end = end if found is None else found
        shortened = True
        while shortened and end > first:
            shortened = False
            for group in self._windowed:
                found = lacking(group, reversed(self._positions(group, first, end, whole=False)))
                if found is not None:
                    end, shortened = found, True
        return max(first, end)

    def memory_blocks(self, end: int) -> int:
        """Those that each group needs."""
        return sum(len(self._positions(group, 0, end, whole=False)) for group in range(self.count))

    def device_key(self, key: HostKey) -> BlockHashWithGroupId:
        """The same."""
        return BlockHashWithGroupId(key)

    def _key(self, block_hashes: Sequence[BlockHash], group: int, position: int) -> HostKey:
        block_hash = block_hashes[self._hash_end(group, position) - 1]
        return make_block_hash_with_group_id(block_hash, group)

    def _hash_end(self, group: int, position: int) -> int:
        return (position + 1) * self._managers[group].block_size // self._hashed_tokens

    def _positions(self, group: int, first: int, end: int, whole: bool) -> range:
        """The blocks of a group that `keys` describes."""
        manager = self._managers[group]
        skipped = manager.get_num_skipped_tokens(end * self._boundary_tokens)
        begin = 0 if whole and group in self._windowed else first * self._boundary_tokens
        stop = end * self._boundary_tokens // manager.block_size
        return range(max(begin, skipped) // manager.block_size, stop)


def groups_of(coordinator: KVCacheCoordinator) -> Groups:
    """The groups of an engine."""
    managers = coordinator.single_type_managers
    if len(managers) == 1 and isinstance(managers[0].kv_cache_spec, FullAttentionSpec):
        return ONE_GROUP
    hashed_tokens = coordinator.block_pool.hash_block_size
    return SeveralGroups(managers, coordinator.scheduler_block_size, hashed_tokens)
