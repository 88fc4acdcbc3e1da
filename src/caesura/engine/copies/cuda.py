"""Host copies on CUDA: batched DMA on low-priority side streams, from and to pinned memory.

Uses vLLM's batched copy (`cuMemcpyBatchAsync`): one driver call per batch and direction,
whatever the number of blocks and layers. Copies out wait for the computation that wrote the
blocks; loads wait for the computation before them, which may still use their target blocks.
Blocks that are overwritten from this iteration on are copied out on a stream of their own, and
the computation waits for that.
"""

from collections import deque
from dataclasses import dataclass

import torch
from vllm.v1.simple_kv_offload.cuda_mem_ops import (
    CU_MEMCPY_SRC_ACCESS_ORDER_ANY,
    CU_MEMCPY_SRC_ACCESS_ORDER_STREAM,
    build_params,
    copy_blocks,
)

from caesura.engine.copies.batch import CopyBatch, FinishedBatches

Regions = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Copied:
    """Copies on a stream: how many blocks, and the events around them."""

    blocks: int
    begun: torch.cuda.Event
    ended: torch.cuda.Event


class _Channel:
    """Copies one way on a stream of its own."""

    def __init__(
        self, source: Regions, target: Regions, stream: torch.cuda.Stream, access_order: int
    ) -> None:
        self.stream = stream
        self._params = build_params(source, target, stream, access_order)

    def copy(self, pairs: list[tuple[int, int]]) -> _Copied:
        """Start copies behind the current stream.

        Raises:
            RuntimeError: the driver refused them.
        """
        self.stream.wait_stream(torch.cuda.current_stream(self.stream.device))
        sources, targets = zip(*pairs, strict=True)
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record(self.stream)
        copy_blocks(list(sources), list(targets), self._params)
        ended.record(self.stream)
        return _Copied(len(pairs), begun, ended)


class CudaCopies:
    """Copies on side streams: one of the lowest priority per direction, and an urgent one."""

    def __init__(self, device: list[torch.Tensor], host: list[torch.Tensor]) -> None:
        lowest, highest = torch.cuda.Stream.priority_range()
        self._device = device[0].device
        self._host = host  # pinned memory lives as long as the copies
        on_device = {str(index): region for index, region in enumerate(device)}
        on_host = {str(index): region for index, region in enumerate(host)}

        def outwards(priority: int) -> _Channel:
            stream = torch.cuda.Stream(self._device, priority=priority)
            return _Channel(on_device, on_host, stream, CU_MEMCPY_SRC_ACCESS_ORDER_STREAM)

        load_stream = torch.cuda.Stream(self._device, priority=lowest)
        self._loads = _Channel(on_host, on_device, load_stream, CU_MEMCPY_SRC_ACCESS_ORDER_ANY)
        self._stores = outwards(lowest)
        self._saves = outwards(highest)
        self._copies: dict[int, list[_Copied]] = {}
        self._under_way: deque[tuple[int, list[_Copied]]] = deque()
        self._failed: set[int] = set()

    def save(self, batch: CopyBatch) -> None:
        """Copy what is overwritten from now on; the current stream waits for it."""
        if self._copied(batch.id, self._saves, batch.urgent_stores):
            torch.cuda.current_stream(self._device).wait_stream(self._saves.stream)

    def start_loads(self, batch: CopyBatch) -> None:
        """Start host-to-device copies."""
        assert not batch.urgent_loads, "loads overlap with computation on CUDA"
        self._copied(batch.id, self._loads, batch.loads)

    def start_stores(self, batch: CopyBatch) -> None:
        """Start device-to-host copies, after the computation that wrote the blocks."""
        self._copied(batch.id, self._stores, batch.stores)
        self._under_way.append((batch.id, self._copies.pop(batch.id, [])))

    def poll(self) -> FinishedBatches:
        """Batches whose events have been reached, in order."""
        finished = FinishedBatches()
        while self._under_way and all(copy.ended.query() for copy in self._under_way[0][1]):
            batch_id, copies = self._under_way.popleft()
            if batch_id in self._failed:
                self._failed.remove(batch_id)
                finished.failed.append(batch_id)
                continue
            finished.completed.append(batch_id)
            for copy in copies:
                finished.copied_blocks += copy.blocks
                finished.copy_seconds += copy.begun.elapsed_time(copy.ended) / 1000
        return finished

    def shutdown(self) -> None:
        """Wait for copies under way."""
        for channel in (self._loads, self._stores, self._saves):
            channel.stream.synchronize()

    def _copied(self, batch_id: int, channel: _Channel, pairs: list[tuple[int, int]]) -> bool:
        """Start copies of a batch; False when there are none or the batch has failed."""
        if not pairs or batch_id in self._failed:
            return False
        try:
            self._copies.setdefault(batch_id, []).append(channel.copy(pairs))
        except RuntimeError:
            self._failed.add(batch_id)
            return False
        return True
