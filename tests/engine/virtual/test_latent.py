"""Latent attention with indexers: one group of layers that differ, as the scheduler sees it."""

import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from vllm.v1.core.kv_cache_utils import generate_scheduler_kv_cache_config
from vllm.v1.kv_cache_interface import (
    KVCacheConfig,
    KVCacheGroupSpec,
    KVCacheTensor,
    MLAAttentionSpec,
    UniformTypeKVCacheSpecs,
)

import engine.virtual.engine as virtual
from engine.virtual.runners import RunnerVersion
from engine.virtual.test_random_schedules import Scenario, play, scenarios
from support.draws import examples


def latent_config(blocks: int, block_size: int, bytes_per_token: int = 0) -> KVCacheConfig:
    """What vLLM gives the scheduler: the first layer stands for both."""
    state = MLAAttentionSpec(
        block_size=block_size, num_kv_heads=1, head_size=576, dtype=torch.bfloat16
    )
    indexer = MLAAttentionSpec(
        block_size=block_size, num_kv_heads=1, head_size=132, dtype=torch.uint8
    )
    layers = {"state": state, "indexer": indexer}
    size, offset, tensors = blocks * sum(s.page_size_bytes for s in layers.values()), 0, []
    for name, spec in layers.items():
        page = spec.page_size_bytes
        tensors.append(KVCacheTensor(size, [name], blocks * page, page, offset))
        offset += blocks * page
    group = KVCacheGroupSpec(
        list(layers), UniformTypeKVCacheSpecs(block_size, kv_cache_specs=layers)
    )
    return generate_scheduler_kv_cache_config([KVCacheConfig(blocks, tensors, [group])])


@pytest.mark.parametrize("runner", list(RunnerVersion))
@pytest.mark.parametrize("in_flight", [1, 2], ids=["sync", "async"])
def test_random_schedules(
    in_flight: int, runner: RunnerVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(virtual, "kv_cache_config", latent_config)

    @settings(max_examples=examples(25), suppress_health_check=list(HealthCheck))
    @given(scenarios(in_flight, runner, connected=True))
    def check(scenario: Scenario) -> None:
        note(repr(scenario))
        play(scenario)

    check()
