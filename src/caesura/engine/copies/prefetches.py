"""Contexts on their way back to the device, ahead of their sessions.

A prefetch takes free device blocks for what the device lacks of a paused context and host memory
has, and fills them by loads of the iterations' copy batches, when nothing else is to be copied.
Nobody finds its blocks before the last of its copies is complete. Its own references keep them
until then: a block that a copy under way writes is never given back.

    context   | held by the pause | found on the device |    to load    | in neither |
    prefetch                      first                 ^               end
                                            issued loads, then queued ones

With several KV cache groups it brings what a boundary needs in all of them, in their order.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import BlockHash, KVCacheBlock

from caesura.engine.copies.batch import CopyBatch, CopyKind
from caesura.engine.copies.groups import ONE_GROUP, Groups, HostKey
from caesura.engine.copies.host_pool import HostPool


class PrefetchEnding(StrEnum):
    """What a prefetch was good for. Every prefetch ends in exactly one of these ways."""

    USED = "used"  # its session was scheduled again and found what it brought
    WASTED = "wasted"  # it failed, was given up, or its blocks were taken before


@dataclass(slots=True, eq=False)
class Prefetch:
    """A paused context's blocks from `first` on, on their way to the device.

    Attributes:
        context_id: the id of the pause.
        first: how many leading blocks of the context are held already.
        end: the boundary that it is to reach.
        blocks: device blocks, those found there before those that are loaded.
        found_blocks: how many were found.
        keys: keys of the blocks that are loaded.
        ends: how many of the context's hashes each of those ends behind.
        slots: host slots of those.
        issued: how many loads have been handed to the workers.
        batches: batches under way with its loads.
        failed: a batch of it failed.
        abandoned: nobody wants it any more.
    """

    context_id: str
    first: int
    end: int
    blocks: list[KVCacheBlock]
    found_blocks: int
    keys: list[HostKey]
    ends: list[int]
    slots: list[int]
    issued: int = 0
    batches: int = 0
    failed: bool = False
    abandoned: bool = False

    @property
    def queued(self) -> int:
        """Loads that have not been handed to the workers."""
        return len(self.keys) - self.issued


class Prefetches(CopyKind[Prefetch]):
    """Prefetches under way: from host memory into the device's block pool.

    Args:
        pool: the device's block pool.
        host: the host copies.
        groups: the KV cache groups.
    """

    def __init__(self, pool: BlockPool, host: HostPool, groups: Groups = ONE_GROUP) -> None:
        super().__init__()
        self._pool = pool
        self._host = host
        self._groups = groups
        self._by_context: dict[str, Prefetch] = {}
        self._queue: deque[Prefetch] = deque()
        self._finished: list[Prefetch] = []
        self._awaited: dict[str, Prefetch] = {}  # by the request that waits

    def start(self, context_id: str, block_hashes: Sequence[BlockHash], first: int) -> bool:
        """Load the copied blocks of a context from block `first` on, if enough blocks are free.

        Returns:
            Whether there is a new prefetch now.
        """
        if context_id in self._by_context:
            return False
        groups, stop = self._groups, self._groups.boundaries(block_hashes)
        if groups.prefixes:
            loaded_from = groups.reach(self._is_cached, block_hashes, first, stop)
            end = groups.reach(self._host.is_filled, block_hashes, loaded_from, stop)
        else:
            loaded_from = len(block_hashes)  # nothing is loaded that the device has
            end = groups.reach(self._has, block_hashes, first, stop)
        found: list[KVCacheBlock] = []
        keys: list[HostKey] = []
        ends: list[int] = []
        for key, position in zip(
            groups.keys(block_hashes, first, end), groups.hash_ends(first, end), strict=True
        ):
            block = self._cached(key) if position <= loaded_from else None
            if block is not None:
                found.append(block)
            else:
                keys.append(key)
                ends.append(position)
        idle = sum(1 for block in found if block.ref_cnt == 0)
        if end == first or len(keys) + idle > self._pool.get_num_free_blocks():
            return False
        self._pool.touch(found)
        blocks = found + self._pool.get_new_blocks(len(keys))
        slots = [self._host.pin(key) for key in keys]
        prefetch = Prefetch(context_id, first, end, blocks, len(found), keys, ends, slots)
        self._by_context[context_id] = prefetch
        if prefetch.queued:
            self._queue.append(prefetch)
        self._settle(prefetch)
        return True

    def _cached(self, key: HostKey) -> KVCacheBlock | None:
        cache = self._pool.cached_block_hash_to_block
        return cache.get_one_block(self._groups.device_key(key))

    def _is_cached(self, key: HostKey) -> bool:
        return self._cached(key) is not None

    def _has(self, key: HostKey) -> bool:
        return self._host.is_filled(key) or self._is_cached(key)

    def _take(self, batch: CopyBatch, budget_blocks: int) -> list[Prefetch]:
        taken: list[Prefetch] = []
        while self._queue and batch.num_blocks < budget_blocks:
            prefetch = self._queue[0]
            stop = min(prefetch.issued + budget_blocks - batch.num_blocks, len(prefetch.slots))
            blocks = prefetch.blocks[prefetch.found_blocks :]
            for index in range(prefetch.issued, stop):
                batch.loads.append((prefetch.slots[index], blocks[index].block_id))
            prefetch.issued = stop
            prefetch.batches += 1
            taken.append(prefetch)
            if not prefetch.queued:
                self._queue.popleft()
        return taken

    def _finish(self, item: Prefetch, succeeded: bool) -> None:
        item.batches -= 1
        item.failed |= not succeeded
        if item.failed:
            self._drop_queued(item)
        self._settle(item)

    def _has_queued(self) -> bool:
        return bool(self._queue)

    def cut_short(self, context_id: str, awaited_by: str | None = None) -> None:
        """Load no more of a context than what is under way, and give the other blocks back.

        Args:
            context_id: the id of the pause.
            awaited_by: the request that has returned for it, and waits for those loads.
        """
        prefetch = self._by_context.get(context_id)
        if prefetch is None:
            return
        if awaited_by is not None:
            self._awaited[awaited_by] = prefetch
        if prefetch.queued:
            self._drop_queued(prefetch)
            self._settle(prefetch)

    def cut_all_short(self) -> None:
        """Somebody wants the memory: take no more than what is under way."""
        for prefetch in list(self._queue):
            self.cut_short(prefetch.context_id)

    def stop(self, context_id: str) -> bool:
        """Nobody wants a prefetch any more; True if there was one.

        Blocks that are being loaded come free, with nothing in them, when those copies are over.
        """
        prefetch = self._by_context.get(context_id)
        if prefetch is None:
            return False
        prefetch.abandoned = True
        self.cut_short(context_id)
        del self._by_context[context_id]
        self._forget_waiting(prefetch)
        if prefetch in self._finished:
            self._finished.remove(prefetch)
            self.release(prefetch)
        return True

    def awaited_by(self, request_id: str) -> bool:
        """Whether loads under way bring context that this request has returned for."""
        return request_id in self._awaited

    def take_finished(self) -> list[Prefetch]:
        """Prefetches that are over: complete, or failed. The caller releases them."""
        finished, self._finished = self._finished, []
        for prefetch in finished:
            del self._by_context[prefetch.context_id]
            self._forget_waiting(prefetch)
        return finished

    def enter(self, prefetch: Prefetch) -> None:
        """A prefetch is complete: what it loaded can be found by its hash from now on."""
        loaded = prefetch.blocks[prefetch.found_blocks :]
        hashed_tokens = self._pool.hash_block_size
        for block, key, end in zip(loaded, prefetch.keys, prefetch.ends, strict=True):
            device_key = self._groups.device_key(key)
            self._pool._insert_block_hash(device_key, block, num_tokens=end * hashed_tokens)

    def release(self, prefetch: Prefetch) -> None:
        """Give its references back."""
        self._pool.free_blocks(reversed(prefetch.blocks))

    @property
    def backlog_blocks(self) -> int:
        """Blocks whose loads are queued or under way."""
        return sum(len(prefetch.keys) for prefetch in self._by_context.values())

    @property
    def pending(self) -> bool:
        """Whether any has loads queued or under way, or was not taken since."""
        return super().pending or bool(self._finished)

    def is_empty(self) -> bool:
        """Whether nothing is left of any (integrity check)."""
        return not (self.pending or self._by_context or self._awaited)

    def _drop_queued(self, prefetch: Prefetch) -> None:
        """Give back what no load was handed to the workers for."""
        if not prefetch.queued:
            return
        end = prefetch.found_blocks + prefetch.issued
        self._pool.free_blocks(reversed(prefetch.blocks[end:]))
        self._host.unpin(prefetch.keys[prefetch.issued :])
        del prefetch.blocks[end:]
        del prefetch.keys[prefetch.issued :]
        del prefetch.ends[prefetch.issued :]
        del prefetch.slots[prefetch.issued :]
        self._queue.remove(prefetch)

    def _settle(self, prefetch: Prefetch) -> None:
        """If all its loads are over, it is."""
        if prefetch.queued or prefetch.batches:
            return
        self._host.unpin(prefetch.keys)
        if prefetch.abandoned:
            self.release(prefetch)
        else:
            self._finished.append(prefetch)

    def _forget_waiting(self, prefetch: Prefetch) -> None:
        for request_id, awaited in list(self._awaited.items()):
            if awaited is prefetch:
                del self._awaited[request_id]
