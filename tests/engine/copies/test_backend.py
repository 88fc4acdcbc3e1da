"""Host copies, on whatever device is here: what comes back is what was there."""

from types import SimpleNamespace

import pytest
import torch

from caesura.engine.copies.backend import (
    BoundedCopies,
    CopyBackend,
    ThreadedCopies,
    allocate_host_regions,
    device_regions,
    make_backend,
)
from caesura.engine.copies.batch import CopyBatch

NUM_BLOCKS, NUM_SLOTS, BLOCK_BYTES, LAYERS = 64, 96, 4096, 3
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def kv_cache(device: str) -> tuple[dict[str, torch.Tensor], SimpleNamespace]:
    """One allocation with a contiguous region per layer, as vLLM places it."""
    layer_bytes = NUM_BLOCKS * BLOCK_BYTES
    storage = torch.randint(-128, 127, (LAYERS * layer_bytes,), dtype=torch.int8, device=device)
    names = [f"layer{index}" for index in range(LAYERS)]
    caches = {
        name: storage[index * layer_bytes : (index + 1) * layer_bytes].view(NUM_BLOCKS, -1)
        for index, name in enumerate(names)
    }
    placement = SimpleNamespace(
        layers=names, layer_stride=layer_bytes, block_stride=BLOCK_BYTES, offset=0
    )
    return caches, SimpleNamespace(num_blocks=NUM_BLOCKS, kv_cache_tensors=[placement])


def wait(backend: CopyBackend, batch_id: int) -> None:
    for _ in range(10_000_000):
        finished = backend.poll()
        assert not finished.failed
        if batch_id in finished.completed:
            return
    raise AssertionError("the batch did not finish")


def backends(device: str) -> list[CopyBackend]:
    regions = device_regions(*kv_cache(device))
    if device == "cuda":
        return [make_backend(regions, NUM_SLOTS)]
    host = allocate_host_regions(regions, NUM_SLOTS, pin=False)
    return [BoundedCopies(regions, host), ThreadedCopies(regions, host)]


@pytest.mark.parametrize("device", DEVICES)
def test_blocks_come_back_as_they_were(device: str) -> None:
    caches, config = kv_cache(device)
    regions = device_regions(caches, config)
    assert [tuple(region.shape) for region in regions] == [(NUM_BLOCKS, BLOCK_BYTES)] * LAYERS
    makers = [lambda: make_backend(regions, NUM_SLOTS)]
    if device == "cpu":
        makers.append(lambda: make_backend(regions, NUM_SLOTS, use_thread=True))
    for make in makers:
        backend = make()
        before = {name: cache.clone() for name, cache in caches.items()}
        blocks = torch.randperm(NUM_BLOCKS)[:20].tolist()
        slots = torch.randperm(NUM_SLOTS)[:20].tolist()
        batch = CopyBatch(0, stores=list(zip(blocks, slots, strict=True)))
        backend.start_loads(batch)
        backend.start_stores(batch)
        wait(backend, 0)
        for cache in caches.values():
            cache.zero_()
        targets = torch.randperm(NUM_BLOCKS)[:20].tolist()
        batch = CopyBatch(1, loads=list(zip(slots, targets, strict=True)))
        backend.start_loads(batch)
        backend.start_stores(batch)
        wait(backend, 1)
        for name, cache in caches.items():
            assert torch.equal(cache[targets].cpu(), before[name][blocks].cpu())
            rest = [block for block in range(NUM_BLOCKS) if block not in targets]
            assert not cache[rest].any(), "blocks that were not asked for are untouched"
            cache.copy_(before[name])
        backend.shutdown()


def test_one_region_for_layouts_with_blocks_outermost() -> None:
    page = 512
    storage = torch.zeros(NUM_BLOCKS * page * LAYERS, dtype=torch.int8)
    names = [f"layer{index}" for index in range(LAYERS)]
    placement = SimpleNamespace(
        layers=names, layer_stride=page, block_stride=page * LAYERS, offset=0
    )
    config = SimpleNamespace(num_blocks=NUM_BLOCKS, kv_cache_tensors=[placement])
    (region,) = device_regions(dict.fromkeys(names, storage), config)
    assert tuple(region.shape) == (NUM_BLOCKS, page * LAYERS)


def test_a_copy_that_fails_is_reported_as_failed() -> None:
    for backend in backends("cpu"):
        batch = CopyBatch(7, stores=[(NUM_BLOCKS + 5, 0)])
        backend.start_loads(batch)
        backend.start_stores(batch)
        backend.shutdown()
        assert backend.poll().failed == [7]


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="copies of a GPU need a machine with CUDA"
)
def test_copies_out_wait_for_the_computation_that_writes_the_blocks() -> None:
    caches, config = kv_cache("cuda")
    backend = make_backend(device_regions(caches, config), NUM_SLOTS)
    big = torch.randn(8192, 8192, device="cuda")
    for round_index in range(5):
        torch.mm(big, big)  # the compute stream is busy when the copy is asked for
        value = round_index + 1
        for cache in caches.values():
            cache.fill_(value)
        batch = CopyBatch(round_index * 2, stores=[(3, 9)])
        backend.start_loads(batch)
        backend.start_stores(batch)
        wait(backend, batch.id)
        back = CopyBatch(round_index * 2 + 1, loads=[(9, 40)])
        for cache in caches.values():
            cache[40].zero_()
        backend.start_loads(back)
        backend.start_stores(back)
        wait(backend, back.id)
        for cache in caches.values():
            assert bool((cache[40] == value).all())
    backend.shutdown()


@pytest.mark.parametrize("device", DEVICES)
def test_saved_blocks_are_copied_before_they_are_overwritten(device: str) -> None:
    caches, config = kv_cache(device)
    regions = device_regions(caches, config)
    for backend in (
        [make_backend(regions, NUM_SLOTS)]
        if device == "cuda"
        else [make_backend(regions, NUM_SLOTS, use_thread) for use_thread in (False, True)]
    ):
        before = [region[3].clone() for region in regions]
        batch = CopyBatch(0, urgent_stores=[(3, 7)])
        backend.save(batch)
        for region in regions:
            region[3].zero_()  # what the iteration computes
        backend.start_loads(batch)
        backend.start_stores(batch)
        wait(backend, 0)
        back = CopyBatch(1, loads=[(7, 5)])
        backend.save(back)
        backend.start_loads(back)
        backend.start_stores(back)
        wait(backend, 1)
        for region, content in zip(regions, before, strict=True):
            assert torch.equal(region[5], content)
        backend.shutdown()
