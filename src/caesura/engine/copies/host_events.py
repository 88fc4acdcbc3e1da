"""What indexes of KV blocks are told of host copies: vLLM's KV events, with `medium="CPU"`.

A router that follows only the device's events believes that a context is gone once it was swapped.
Where a model has several KV cache groups nothing is told of host copies.
"""

from collections import OrderedDict

from vllm.distributed.kv_events import MEDIUM_CPU, BlockRemoved, BlockStored, KVCacheEvent
from vllm.v1.core.kv_cache_utils import (
    BlockHash,
    generate_block_hash_extra_keys,
    maybe_convert_block_hash,
    to_event_extra_keys,
)
from vllm.v1.request import Request

KV_CACHE_GROUP = 0
_DESCRIBED_PER_SLOT = 4


class HostEvents:
    """Events of host copies. This one ignores them: nobody listens."""

    def describe(self, request: Request) -> None:
        """A request's blocks may be copied: an event says which tokens they have."""

    def stored(self, block_hash: BlockHash) -> None:
        """A block can be read from host memory."""

    def removed(self, block_hash: BlockHash) -> None:
        """A block cannot be read from there any more."""

    def take(self) -> list[KVCacheEvent]:
        """The events since the last call."""
        return []


class PublishedHostEvents(HostEvents):
    """Events of host copies, as vLLM has them of device blocks.

    Args:
        block_size: tokens per block.
        num_slots: blocks that host memory has room for.
    """

    def __init__(self, block_size: int, num_slots: int) -> None:
        self._block_size = block_size
        self._most = _DESCRIBED_PER_SLOT * num_slots
        # By hash, a request that has the block, and where; least recently described first.
        self._described: OrderedDict[BlockHash, tuple[Request, int]] = OrderedDict()
        self._events: list[KVCacheEvent] = []

    def describe(self, request: Request) -> None:
        """See `HostEvents`."""
        for position, block_hash in enumerate(request.block_hashes):
            self._described[block_hash] = request, position
            self._described.move_to_end(block_hash)
        while len(self._described) > self._most:
            self._described.popitem(last=False)

    def stored(self, block_hash: BlockHash) -> None:
        """See `HostEvents`."""
        described = self._described.get(block_hash)
        if described is None:
            return  # an index cannot place it
        request, position = described
        start = position * self._block_size
        stop = start + self._block_size
        extra_keys, _ = generate_block_hash_extra_keys(request, start, stop, 0)
        adapter = request.lora_request
        parent = request.block_hashes[position - 1] if position else None
        self._events.append(
            BlockStored(
                block_hashes=[maybe_convert_block_hash(block_hash)],
                parent_block_hash=None if parent is None else maybe_convert_block_hash(parent),
                token_ids=list(request.all_token_ids[start:stop]),
                block_size=self._block_size,
                lora_id=adapter.adapter_id if adapter else None,
                medium=MEDIUM_CPU,
                lora_name=adapter.name if adapter else None,
                extra_keys=to_event_extra_keys([extra_keys]),
                group_idx=KV_CACHE_GROUP,
                session_id=request.session_id,
            )
        )

    def removed(self, block_hash: BlockHash) -> None:
        """See `HostEvents`."""
        self._events.append(
            BlockRemoved(
                block_hashes=[maybe_convert_block_hash(block_hash)],
                medium=MEDIUM_CPU,
                group_idx=KV_CACHE_GROUP,
            )
        )

    def take(self) -> list[KVCacheEvent]:
        """See `HostEvents`."""
        events, self._events = self._events, []
        return events
