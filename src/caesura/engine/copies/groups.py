"""KV cache groups: which blocks a context needs in each of them to go on at a boundary.

Layers that need the same blocks form a group, and a request has a block table in each group. A
*boundary* is a number of full blocks behind which a context can go on. Full attention needs every
block before it, a sliding window only those that the window reaches:

    boundary 6, a window of 2 blocks:   full attention   0 1 2 3 4 5
                                        sliding window   - - - - 4 5

A context is of use at a boundary only if *all* groups have what they need there. Blocks are kept
in host memory by hash and group.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from vllm.v1.core.kv_cache_utils import (
    BlockHash,
    BlockHashWithGroupId,
    make_block_hash_with_group_id,
)
from vllm.v1.core.single_type_kv_cache_manager import SingleTypeKVCacheManager
from vllm.v1.kv_cache_interface import FullAttentionSpec

HostKey = BlockHash | BlockHashWithGroupId
"""What a block in host memory is found by: its hash, with its group if there are several."""

Item = TypeVar("Item")


class Groups(Protocol):
    """The groups of an engine. Positions are in blocks."""

    count: int
    """How many there are."""

    prefixes: bool
    """Whether any leading blocks of a context are of use; else all of a boundary, or nothing."""

    def keys(
        self, block_hashes: Sequence[BlockHash], first: int, end: int, *, whole: bool = False
    ) -> list[HostKey]:
        """The keys of what boundary `end` needs besides what boundary `first` needs.

        Args:
            block_hashes: hash of each full block of the context.
            first: the boundary that there is.
            end: the boundary that is wanted.
            whole: with all that windows reach, in case that boundary `first` is lost.
        """

    def pick(
        self, tables: Sequence[Sequence[Item]], first: int, end: int, *, whole: bool = False
    ) -> list[Item]:
        """Entries of each group's table, in the order of `keys`."""

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
    """Full attention and sliding windows, in several groups with blocks of one size.

    Args:
        managers: vLLM's manager of each group, in the order of the groups.
    """

    prefixes = False

    def __init__(self, managers: Sequence[SingleTypeKVCacheManager]) -> None:
        self.count = len(managers)
        self._managers = managers
        self._block_size = managers[0].block_size
        full = [isinstance(manager.kv_cache_spec, FullAttentionSpec) for manager in managers]
        self._full = [group for group, is_full in enumerate(full) if is_full]
        self._windowed = [group for group, is_full in enumerate(full) if not is_full]

    def keys(
        self, block_hashes: Sequence[BlockHash], first: int, end: int, *, whole: bool = False
    ) -> list[HostKey]:
        """Hashes with their groups, group by group."""
        return [
            make_block_hash_with_group_id(block_hashes[position], group)
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

    def reach(
        self,
        has: Callable[[HostKey], bool],
        block_hashes: Sequence[BlockHash],
        first: int,
        stop: int,
    ) -> int:
        """Windows are looked at from the end: a block that lacks ends all boundaries behind it
        whose windows reach it, and they do so up to the end."""

        def lacks(group: int, position: int) -> bool:
            return not has(make_block_hash_with_group_id(block_hashes[position], group))

        end = stop
        for group in self._full:
            end = next((p for p in range(first, end) if lacks(group, p)), end)
        shortened = True
        while shortened and end > first:
            shortened = False
            for group in self._windowed:
                reached = reversed(self._positions(group, first, end, whole=False))
                lacking = next((position for position in reached if lacks(group, position)), None)
                if lacking is not None:
                    end, shortened = lacking, True
        return max(first, end)

    def memory_blocks(self, end: int) -> int:
        """Those that each group needs."""
        return sum(len(self._positions(group, 0, end, whole=False)) for group in range(self.count))

    def device_key(self, key: HostKey) -> BlockHashWithGroupId:
        """The same."""
        return BlockHashWithGroupId(key)

    def _positions(self, group: int, first: int, end: int, whole: bool) -> range:
        """The blocks of a group that `keys` describes."""
        skipped = self._managers[group].get_num_skipped_tokens(end * self._block_size)
        if whole and group in self._windowed:
            first = 0
        return range(max(first, skipped // self._block_size), end)


def groups_of(managers: Sequence[SingleTypeKVCacheManager]) -> Groups:
    """The groups of an engine whose managers these are."""
    if len(managers) == 1 and isinstance(managers[0].kv_cache_spec, FullAttentionSpec):
        return ONE_GROUP
    return SeveralGroups(managers)
