"""Host copies of KV blocks, found by block hash and group (the scheduler's side: bookkeeping only).

A slot holds the KV of one block on every rank. Slots are filled by copies out; until the
copy is complete a slot cannot be read. Pauses and loads pin the slots that they rely on;
slots without a pin are kept as long as there is room, least recently used first out.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from caesura.engine.copies.groups import HostKey
from caesura.engine.copies.host_events import HostEvents


@dataclass(slots=True)
class _Slot:
    index: int
    pins: int
    filled: bool


class HostPool:
    """Slots of host memory by what their blocks are found by.

    Attributes:
        num_slots: capacity in blocks.
        events: told of copies that can be read, and of those that cannot be read any more.
    """

    def __init__(self, num_slots: int, events: HostEvents | None = None) -> None:
        self.num_slots = num_slots
        self.events = events or HostEvents()
        self._free = list(range(num_slots - 1, -1, -1))
        self._slots: dict[HostKey, _Slot] = {}
        self._unpinned: OrderedDict[HostKey, None] = OrderedDict()

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

    def __contains__(self, key: HostKey) -> bool:
        """Whether a copy of the block exists or is on its way."""
        return key in self._slots

    def is_filled(self, key: HostKey) -> bool:
        """Whether a readable copy of the block exists."""
        slot = self._slots.get(key)
        return slot is not None and slot.filled

    def has_room(self, keys: Iterable[HostKey]) -> bool:
        """Whether all of these blocks can be relied on at once."""
        unpinned = sum(key not in self._slots or key in self._unpinned for key in keys)
        return unpinned <= self.available_slots

    def reserve(self, key: HostKey) -> int | None:
        """A pinned slot to copy the block into, or None when every slot is relied on."""
        assert key not in self._slots
        if not self._free:
            if not self._unpinned:
                return None
            self.drop(next(iter(self._unpinned)))
        index = self._free.pop()
        self._slots[key] = _Slot(index, pins=1, filled=False)
        return index

    def fill(self, key: HostKey) -> None:
        """The copy into the slot is complete. The reservation's pin stays."""
        self._slots[key].filled = True
        self.events.stored(key)

    def drop(self, key: HostKey) -> None:
        """The slot's copy has failed, or makes room: give the slot back."""
        slot = self._slots.pop(key)
        self._unpinned.pop(key, None)
        self._free.append(slot.index)
        if slot.filled:
            self.events.removed(key)

    def pin(self, key: HostKey) -> int:
        """Rely on the block's copy until `unpin`; returns its slot."""
        slot = self._slots[key]
        if slot.pins == 0:
            self._unpinned.pop(key)
        slot.pins += 1
        return slot.index

    def unpin(self, keys: Iterable[HostKey], forget: bool = False) -> None:
        """Rely on the copies no longer. With `forget` they are the first to be replaced."""
        for key in keys:
            slot = self._slots.get(key)
            if slot is None:
                continue
            slot.pins -= 1
            assert slot.pins >= 0, "host slot unpinned more often than pinned"
            if slot.pins == 0:
                if not slot.filled:
                    self.drop(key)
                    continue
                self._unpinned[key] = None
                self._unpinned.move_to_end(key, last=not forget)

    def clear_unpinned(self) -> None:
        """Drop every copy that nothing relies on."""
        for key in list(self._unpinned):
            self.drop(key)
