"""The workers' half of host copies: memory regions and the copies between them.

A region is one allocation of the KV cache seen as `[num_blocks, block_bytes]` bytes; a host
region has the same rows for its slots. Whatever the attention backend stores in a block, a
copy moves all of it, so layouts and models do not matter here.
"""

import queue
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch

from caesura.engine.copies.batch import CopyBatch, FinishedBatches

if TYPE_CHECKING:
    from vllm.v1.kv_cache_interface import KVCacheConfig

Rows = npt.NDArray[np.int8]


class CopyBackend(Protocol):
    """Copies blocks between the device and host memory."""

    def save(self, batch: CopyBatch) -> None:
        """Copy what is overwritten from now on (the urgent stores). Called before anything of the
        iteration is computed or loaded, and in effect for all of that."""

    def start_loads(self, batch: CopyBatch) -> None:
        """Start the host-to-device copies of a batch. Urgent ones are in effect on return, for
        whatever is computed on the current stream from then on."""

    def start_stores(self, batch: CopyBatch) -> None:
        """Start the device-to-host copies of a batch; always called after `start_loads`."""

    def poll(self) -> FinishedBatches:
        """Batches that finished since the last call, without waiting: in the order in which they
        were started, since what a request loads may be spread over several."""

    def shutdown(self) -> None:
        """Wait for copies under way and free what the backend holds."""


def device_regions(
    kv_caches: Mapping[str, torch.Tensor], config: "KVCacheConfig"
) -> list[torch.Tensor]:
    """The KV cache as byte regions of shape `[num_blocks, block_bytes]`.

    Layer-outermost layouts have one region per layer (and one per head group where heads are
    outermost); block-outermost ones one region for all layers.

    Raises:
        ValueError: the placement in `config` does not cover the tensors.
    """
    regions: dict[tuple[int, int], torch.Tensor] = {}
    for placement in config.kv_cache_tensors:
        name = next((layer for layer in placement.layers if layer in kv_caches), None)
        if name is None:
            continue
        storage = kv_caches[name].untyped_storage()
        raw = torch.empty(0, dtype=torch.int8, device=storage.device).set_(storage)
        region_bytes = config.num_blocks * placement.block_stride
        if placement.layer_stride >= region_bytes:
            start = placement.offset
            span = len(placement.layers) * placement.layer_stride
        else:
            start, span = 0, region_bytes
        if raw.numel() < start + span or span % region_bytes:
            raise ValueError(
                f"KV cache of {name!r} has {raw.numel()} bytes; {span} bytes at {start} in "
                f"regions of {region_bytes} were expected"
            )
        for region in raw[start : start + span].view(-1, config.num_blocks, placement.block_stride):
            regions.setdefault((region.data_ptr(), region.numel()), region)
    if not regions:
        raise ValueError("no KV cache tensor was found to copy")
    return list(regions.values())


def row_bytes(regions: list[torch.Tensor]) -> int:
    """Bytes of one block over all regions, device or host."""
    return sum(region.shape[1] for region in regions)


def allocate_host_regions(
    regions: list[torch.Tensor], num_slots: int, pin: bool
) -> list[torch.Tensor]:
    """Host memory with `num_slots` rows for each device region, page-locked when `pin`."""
    host = [torch.empty(num_slots, region.shape[1], dtype=torch.int8) for region in regions]
    if pin:
        from vllm.v1.simple_kv_offload.cuda_mem_ops import pin_tensor

        for tensor in host:
            pin_tensor(tensor)
    return host


def make_backend(
    regions: list[torch.Tensor], num_slots: int, use_thread: bool = False
) -> CopyBackend:
    """The backend for the regions' device."""
    device = regions[0].device
    if device.type == "cuda":
        from caesura.engine.copies.cuda import CudaCopies

        return CudaCopies(regions, allocate_host_regions(regions, num_slots, pin=True))
    host = allocate_host_regions(regions, num_slots, pin=False)
    return ThreadedCopies(regions, host) if use_thread else BoundedCopies(regions, host)


class BoundedCopies:
    """Copies at once, between iterations; the byte budget bounds the time that it takes.

    For devices whose KV cache is host memory: there is no link to overlap with, and a copying
    thread takes a core from the model (measured: `docs/results/copies.md`).
    """

    def __init__(self, device: list[torch.Tensor], host: list[torch.Tensor]) -> None:
        # NumPy moves whole rows (5 GB/s on one core); torch's index_select goes by element.
        self._device = [region.numpy() for region in device]
        self._host = [region.numpy() for region in host]
        self._finished = FinishedBatches()
        self._broken: set[int] = set()

    def save(self, batch: CopyBatch) -> None:
        """Copy what is overwritten from now on."""
        if not self.try_save(batch):
            self.fail(batch)

    def try_save(self, batch: CopyBatch) -> bool:
        """Make the urgent stores; False when they could not be made."""
        return self._try_copy(batch.urgent_stores, self._device, self._host)

    def start_loads(self, batch: CopyBatch) -> None:
        """Copy the batch's loads."""
        pairs = batch.urgent_loads + batch.loads
        if not self._try_copy(pairs, self._host, self._device):
            self.fail(batch)

    def start_stores(self, batch: CopyBatch) -> None:
        """Copy the batch's stores and report the batch."""
        if not self._try_copy(batch.stores, self._device, self._host):
            self.fail(batch)
        ok = batch.id not in self._broken
        self._broken.discard(batch.id)
        (self._finished.completed if ok else self._finished.failed).append(batch.id)

    def fail(self, batch: CopyBatch) -> None:
        """Some of the batch's copies were not made: all of it is reported as failed."""
        self._broken.add(batch.id)

    def poll(self) -> FinishedBatches:
        """Batches that finished since the last call."""
        finished, self._finished = self._finished, FinishedBatches()
        return finished

    def shutdown(self) -> None:
        """Nothing is under way between calls."""

    def _try_copy(
        self, pairs: list[tuple[int, int]], source: list[Rows], target: list[Rows]
    ) -> bool:
        if not pairs:
            return True
        began = time.perf_counter()
        from_rows, to_rows = (list(rows) for rows in zip(*pairs, strict=True))
        try:
            for source_region, target_region in zip(source, target, strict=True):
                target_region[to_rows] = source_region[from_rows]
        except (IndexError, MemoryError):
            return False
        self._finished.copied_blocks += len(pairs)
        self._finished.copy_seconds += time.perf_counter() - began
        return True


class ThreadedCopies:
    """Copies in a worker thread, beside the computation. Takes no urgent loads."""

    def __init__(self, device: list[torch.Tensor], host: list[torch.Tensor]) -> None:
        self._copies = BoundedCopies(device, host)
        self._saves = BoundedCopies(device, host)
        self._batches: queue.SimpleQueue[CopyBatch | None] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[FinishedBatches] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="caesura-copies", daemon=True)
        self._thread.start()

    def save(self, batch: CopyBatch) -> None:
        """Copy what is overwritten from now on, in the calling thread."""
        if not self._saves.try_save(batch):
            self._copies.fail(batch)

    def start_loads(self, batch: CopyBatch) -> None:
        """Loads start with the stores of the same batch."""

    def start_stores(self, batch: CopyBatch) -> None:
        """Queue the whole batch."""
        self._batches.put(batch)

    def poll(self) -> FinishedBatches:
        """Batches that finished since the last call."""
        finished = FinishedBatches()
        while not self._finished.empty():
            part = self._finished.get()
            finished.completed += part.completed
            finished.failed += part.failed
            finished.copied_blocks += part.copied_blocks
            finished.copy_seconds += part.copy_seconds
        return finished

    def shutdown(self) -> None:
        """Finish what is queued."""
        self._batches.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            self._copies.start_loads(batch)
            self._copies.start_stores(batch)
            self._finished.put(self._copies.poll())
