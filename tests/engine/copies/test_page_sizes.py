"""Layers with KV pages of different sizes: both sides count the same host slots, and copy all."""

import copy
from collections.abc import Mapping

import pytest
import torch
from vllm.config import KVTransferConfig, VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import (
    generate_scheduler_kv_cache_config,
    get_kv_cache_config_from_groups,
    get_kv_cache_groups,
)
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
    create_kv_cache_views,
    iter_layer_specs,
)
from vllm.v1.kv_cache_layout import KVCacheLayout

from caesura.engine.config import SECTION, block_bytes
from caesura.engine.connector import CaesuraConnector, CopyMetadata, HostSlots
from caesura.engine.copies.backend import BoundedCopies, allocate_host_regions, device_regions
from caesura.engine.copies.batch import CopyBatch
from caesura.engine.flags import kv_transfer_config
from caesura.lab.models.noise_model import demo_model_path
from caesura.lab.sim.vllm_config import base_config

BLOCK_SIZE = 16
HOST_BYTES = 64 * 2**20
LAYOUTS = [KVCacheLayout.LBNHC, KVCacheLayout.BLHNC]


def attention(heads: int, head_size: int = 64) -> KVCacheSpec:
    return FullAttentionSpec(
        block_size=BLOCK_SIZE, num_kv_heads=heads, head_size=head_size, dtype=torch.bfloat16
    )


def latent(size: int, dtype: torch.dtype) -> KVCacheSpec:
    return MLAAttentionSpec(block_size=BLOCK_SIZE, num_kv_heads=1, head_size=size, dtype=dtype)


def windowed(heads: int) -> KVCacheSpec:
    return SlidingWindowSpec(
        block_size=BLOCK_SIZE,
        num_kv_heads=heads,
        head_size=64,
        dtype=torch.bfloat16,
        sliding_window=4 * BLOCK_SIZE,
    )


MODELS: Mapping[str, list[KVCacheSpec]] = {
    "alike": [attention(2)] * 8,
    "KV heads 8, 1, 8, 1": [attention(8), attention(1)] * 4,
    "MLA with indexers": [latent(576, torch.bfloat16)] * 4 + [latent(132, torch.uint8)] * 4,
    "a smaller draft layer": [attention(8, 128)] * 8 + [attention(2)],
}

WINDOWS = [windowed(2), windowed(2), attention(2)] * 2


def configurations(
    layers: list[KVCacheSpec], layout: KVCacheLayout
) -> tuple[VllmConfig, KVCacheConfig, KVCacheConfig]:
    """vLLM's own: for the engine, for a worker, and for the scheduler."""
    config = copy.copy(base_config(str(demo_model_path()), BLOCK_SIZE))
    config.cache_config = copy.copy(config.cache_config)
    config.cache_config.kv_cache_layout = layout.name
    config.kv_transfer_config = KVTransferConfig(**kv_transfer_config())
    config.additional_config = {SECTION: {"host_memory": HOST_BYTES}}
    specs = {f"layer{index}": spec for index, spec in enumerate(layers)}
    groups = get_kv_cache_groups(config, specs)
    worker = get_kv_cache_config_from_groups(config, groups, 40 * 2**20)
    return config, worker, generate_scheduler_kv_cache_config([worker])


def layer_views(worker: KVCacheConfig, layout: KVCacheLayout) -> dict[str, torch.Tensor]:
    """What vLLM's attention sees of each layer, on one allocation."""
    raw = torch.zeros(worker.kv_cache_tensors[0].size, dtype=torch.int8)
    by_layer: dict[str, KVCacheSpec] = {}
    for group in worker.kv_cache_groups:
        by_layer |= dict.fromkeys(group.layer_names, group.kv_cache_spec)
        by_layer |= zip(group.layer_names, iter_layer_specs(group.kv_cache_spec), strict=False)
    views = {}
    for placement in worker.kv_cache_tensors:
        spec = by_layer[placement.layers[0]]
        found = create_kv_cache_views(raw, spec, worker.num_blocks, layout, placement)
        views.update(zip(placement.layers, found, strict=True))
    return views


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def layout(request: pytest.FixtureRequest) -> KVCacheLayout:
    return request.param


def manager_of(caches: KVCacheConfig) -> KVCacheManager:
    """The scheduler's manager of that memory."""
    return KVCacheManager(
        caches, max_model_len=64, scheduler_block_size=BLOCK_SIZE, hash_block_size=BLOCK_SIZE
    )


@pytest.mark.parametrize("layers", MODELS.values(), ids=MODELS.keys())
class TestPagesOfAnySize:
    def test_both_sides_know_how_large_a_block_is(
        self, layers: list[KVCacheSpec], layout: KVCacheLayout
    ) -> None:
        _, worker, scheduler = configurations(layers, layout)
        expected = sum(layer.page_size_bytes for layer in layers)
        assert block_bytes(worker) == expected
        assert block_bytes(scheduler) == expected

    def test_the_scheduler_hands_out_the_slots_that_workers_have(
        self, layers: list[KVCacheSpec], layout: KVCacheLayout
    ) -> None:
        config, worker_caches, scheduler_caches = configurations(layers, layout)
        worker = CaesuraConnector(config, KVConnectorRole.WORKER, worker_caches)
        worker.register_kv_caches(layer_views(worker_caches, layout))
        slots = HOST_BYTES // sum(layer.page_size_bytes for layer in layers)
        assert worker.get_handshake_metadata() == HostSlots(slots)
        scheduler = CaesuraConnector(config, KVConnectorRole.SCHEDULER, scheduler_caches)
        scheduler.bind_kv_cache_manager(manager_of(scheduler_caches))
        assert scheduler.transfers.host.num_slots == slots
        worker.shutdown()

    def test_copies_bring_back_every_layer(
        self, layers: list[KVCacheSpec], layout: KVCacheLayout
    ) -> None:
        _, worker, _ = configurations(layers, layout)
        views = layer_views(worker, layout)
        regions = device_regions(views, worker)
        copies = BoundedCopies(regions, allocate_host_regions(regions, 4, pin=False))
        for index, view in enumerate(views.values()):
            view[5] = index + 1
        copies.start_stores(CopyBatch(0, stores=[(5, 3)]))
        for view in views.values():
            view.zero_()
        copies.start_loads(CopyBatch(1, loads=[(3, 2)]))
        assert copies.poll().completed == [0]
        for index, view in enumerate(views.values()):
            assert bool((view[2] == index + 1).all())
            assert not bool(view[3:].any()), "other blocks are untouched"


def test_the_smallest_host_memory_of_all_workers_counts() -> None:
    config, _, caches = configurations(MODELS["alike"], KVCacheLayout.LBNHC)
    scheduler = CaesuraConnector(config, KVConnectorRole.SCHEDULER, caches)
    scheduler.bind_kv_cache_manager(manager_of(caches))
    planned = scheduler.num_slots
    scheduler.set_xfer_handshake_metadata_pp_aware(
        {(0, 0): HostSlots(planned + 9), (0, 1): HostSlots(planned - 5)}
    )
    host = scheduler.transfers.host
    assert (host.num_slots, host.available_slots) == (planned - 5, planned - 5)


def test_a_request_of_which_one_group_failed_to_load_is_computed_from_its_start() -> None:
    """Which of its blocks were loaded does not matter: nothing of any group may be used."""
    config, caches, _ = configurations(WINDOWS, KVCacheLayout.LBNHC)
    assert len(caches.kv_cache_groups) == 3
    worker = CaesuraConnector(config, KVConnectorRole.WORKER, caches)
    worker.register_kv_caches(layer_views(caches, KVCacheLayout.LBNHC))
    missing = worker.num_slots  # the last is one less
    batches = [
        CopyBatch(0, loads=[(0, 1), (missing, 2)], loading=["torn"]),
        CopyBatch(1, loads=[(1, 3), (2, 4)], loading=["torn", "whole"], finished_loads=["torn"]),
        CopyBatch(2, loads=[(3, 5)], loading=["whole"], finished_loads=["whole"]),
    ]
    received, failed = [], []
    for batch in batches:
        worker.bind_connector_metadata(CopyMetadata(batch))
        worker.start_load_kv(None)
        worker.wait_for_save()
        results = worker.get_transfer_results(set())
        received.append(results.finished_recving)
        failed.append(results.failed_recving)
    assert received == [set(), {"torn"}, {"whole"}]
    assert failed == [set(), {"torn"}, set()]
    assert worker.get_block_ids_with_load_errors() == set()
    worker.shutdown()
