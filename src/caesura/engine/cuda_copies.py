"""Host copies on CUDA: batched DMA on low-priority side streams, from and to pinned memory.

Uses vLLM's batched copy (`cuMemcpyBatchAsync`): one driver call per batch and direction,
whatever the number of blocks and layers. Copies out wait for the computation that wrote the
blocks; loads do not, since their target blocks are idle.
"""

from collections import deque

import torch
from vllm.v1.simple_kv_offload.cuda_mem_ops import (
    CU_MEMCPY_SRC_ACCESS_ORDER_ANY,
    CU_MEMCPY_SRC_ACCESS_ORDER_STREAM,
    build_params,
    copy_blocks,
)

from caesura.engine.copy_backend import FinishedBatches
from caesura.engine.copy_batch import CopyBatch


class CudaCopies:
    """Copies on two side streams of the lowest priority, one per direction."""

    def __init__(self, device: list[torch.Tensor], host: list[torch.Tensor]) -> None:
        lowest_priority, _ = torch.cuda.Stream.priority_range()
        self._device = device[0].device
        self._load_stream = torch.cuda.Stream(self._device, priority=lowest_priority)
        self._store_stream = torch.cuda.Stream(self._device, priority=lowest_priority)
        on_device = {str(index): region for index, region in enumerate(device)}
        on_host = {str(index): region for index, region in enumerate(host)}
        self._load_params = build_params(
            on_host, on_device, self._load_stream, CU_MEMCPY_SRC_ACCESS_ORDER_ANY
        )
        self._store_params = build_params(
            on_device, on_host, self._store_stream, CU_MEMCPY_SRC_ACCESS_ORDER_STREAM
        )
        self._host = host  # pinned memory lives as long as the copies
        self._under_way: deque[tuple[int, list[torch.cuda.Event]]] = deque()
        self._load_events: dict[int, torch.cuda.Event] = {}
        self._failed: list[int] = []

    def start_loads(self, batch: CopyBatch) -> None:
        """Start host-to-device copies; device blocks that receive them are not in use."""
        assert not batch.urgent_loads, "loads overlap with computation on CUDA"
        if not batch.loads:
            return
        # Blocks may have been freed by an iteration that is still running: order behind it.
        self._load_stream.wait_stream(torch.cuda.current_stream(self._device))
        slots, blocks = zip(*batch.loads, strict=True)
        if self._copied(batch, list(slots), list(blocks), loading=True):
            event = torch.cuda.Event()
            event.record(self._load_stream)
            self._load_events[batch.id] = event

    def start_stores(self, batch: CopyBatch) -> None:
        """Start device-to-host copies, after the computation that wrote the blocks."""
        events = [self._load_events.pop(batch.id)] if batch.id in self._load_events else []
        if batch.id in self._failed:
            return
        if batch.stores:
            self._store_stream.wait_stream(torch.cuda.current_stream(self._device))
            blocks, slots = zip(*batch.stores, strict=True)
            if not self._copied(batch, list(blocks), list(slots), loading=False):
                return
            event = torch.cuda.Event()
            event.record(self._store_stream)
            events.append(event)
        self._under_way.append((batch.id, events))

    def poll(self) -> FinishedBatches:
        """Batches whose events have been reached, in order."""
        finished = FinishedBatches(failed=self._failed)
        self._failed = []
        while self._under_way and all(event.query() for event in self._under_way[0][1]):
            finished.completed.append(self._under_way.popleft()[0])
        return finished

    def shutdown(self) -> None:
        """Wait for copies under way."""
        self._load_stream.synchronize()
        self._store_stream.synchronize()

    def _copied(
        self, batch: CopyBatch, sources: list[int], targets: list[int], *, loading: bool
    ) -> bool:
        params = self._load_params if loading else self._store_params
        try:
            copy_blocks(sources, targets, params)
        except RuntimeError:
            self._failed.append(batch.id)
            return False
        return True
