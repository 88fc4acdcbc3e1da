"""Host copies of KV blocks, found by block hash (the scheduler's side: bookkeeping only).

A slot holds the KV of one block on every rank. Slots are filled by copies out; until the
copy is complete a slot cannot be read. Pauses and loads pin the slots that they rely on;
slots without a pin are kept as long as there is room, least recently used first out.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vllm.v1.core.kv_cache_utils import BlockHash

from caesura.engine.copies.host_events import HostEvents


@dataclass(slots=True)
class _Slot:
    index: int
    pins: int
    filled: bool


class HostPool:
    """Slots of host memory by block hash.

    Attributes:
        num_slots: capacity in blocks.
        events: told of copies that can be read, and of those that cannot be read any more.
    """

    def __init__(self, num_slots: int, events: HostEvents | None = None) -> None:
        self.num_slots = num_slots
        self.events = events or HostEvents()
        self._free = list(range(num_slots - 1, -1, -1))
        self._slots: dict[BlockHash, _Slot] = {}
        self._unpinned: OrderedDict[BlockHash, None] = OrderedDict()

    def limit(self, num_slots: int) -> None:
        """Use so many slots at most: those that workers have. Called before any is used."""
        assert not self._slots, "host slots are in use"
        self.num_slots = min(self.num_slots, num_slots)
        self._free = list(range(self.num_slots - 1, -1, -1))

    @property
    def available_slots(self) -> int:
        """Slots that a copy out could use: free ones and unpinned ones."""
        return len(self._free) + len(self._unpinned)

    @property
    def used_slots(self) -> int:
        """Slots that hold or receive a copy."""
        return len(self._slots)

    @property
    def pinned_slots(self) -> int:
        """Slots that a pause or a transfer relies on."""
        return len(self._slots) - len(self._unpinned)

    def __contains__(self, block_hash: BlockHash) -> bool:
        """Whether a copy of the block exists or is on its way."""
        return block_hash in self._slots

    def is_filled(self, block_hash: BlockHash) -> bool:
        """Whether a readable copy of the block exists."""
        slot = self._slots.get(block_hash)
        return slot is not None and slot.filled

    def filled_run(self, block_hashes: Sequence[BlockHash], start: int, stop: int) -> int:
        """How many blocks from `start` on have a readable copy, without a gap, before `stop`."""
        position = start
        while position < stop and self.is_filled(block_hashes[position]):
            position += 1
        return position - start

    def reserve(self, block_hash: BlockHash) -> int | None:
        """A pinned slot to copy the block into, or None when every slot is relied on."""
        assert block_hash not in self._slots
        if not self._free:
            if not self._unpinned:
                return None
            self.drop(next(iter(self._unpinned)))
        index = self._free.pop()
        self._slots[block_hash] = _Slot(index, pins=1, filled=False)
        return index

    def fill(self, block_hash: BlockHash) -> None:
        """The copy into the slot is complete. The reservation's pin stays."""
        self._slots[block_hash].filled = True
        self.events.stored(block_hash)

    def drop(self, block_hash: BlockHash) -> None:
        """The slot's copy has failed, or makes room: give the slot back."""
        slot = self._slots.pop(block_hash)
        self._unpinned.pop(block_hash, None)
        self._free.append(slot.index)
        if slot.filled:
            self.events.removed(block_hash)

    def pin(self, block_hash: BlockHash) -> int:
        """Rely on the block's copy until `unpin`; returns its slot."""
        slot = self._slots[block_hash]
        if slot.pins == 0:
            self._unpinned.pop(block_hash)
        slot.pins += 1
        return slot.index

    def unpin(self, block_hashes: Iterable[BlockHash], forget: bool = False) -> None:
        """Rely on the copies no longer. With `forget` they are the first to be replaced."""
        for block_hash in block_hashes:
            slot = self._slots.get(block_hash)
            if slot is None:
                continue
            slot.pins -= 1
            assert slot.pins >= 0, "host slot unpinned more often than pinned"
            if slot.pins == 0:
                if not slot.filled:
                    self.drop(block_hash)
                    continue
                self._unpinned[block_hash] = None
                self._unpinned.move_to_end(block_hash, last=not forget)

    def clear_unpinned(self) -> None:
        """Drop every copy that nothing relies on."""
        for block_hash in list(self._unpinned):
            self.drop(block_hash)
