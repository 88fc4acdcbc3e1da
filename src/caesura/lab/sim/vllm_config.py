"""vLLM's configuration for a scheduler without a model."""

import copy
from functools import cache

import torch
from vllm.config import VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    KVCacheTensor,
)

BYTES_PER_HEAD_ELEMENT = 8
"""One key and one value in float32: what sizes of blocks are made of here."""


@cache
def base_config(model: str, block_size: int) -> VllmConfig:
    """vLLM's configuration for a model: slow to make, so it is made once. Copy it to change it."""
    arguments = EngineArgs(
        model=model,
        block_size=block_size,
        enforce_eager=True,
        skip_tokenizer_init=True,
        distributed_executor_backend="uni",
    )
    return arguments.create_engine_config()


def kv_cache_config(
    blocks: int, block_size: int, bytes_per_token: int = BYTES_PER_HEAD_ELEMENT
) -> KVCacheConfig:
    """One layer of full attention in `blocks` blocks, vLLM's null block among them.

    Bytes per token are rounded down to a multiple of 8.
    """
    spec = FullAttentionSpec(
        block_size=block_size,
        num_kv_heads=1,
        head_size=max(1, bytes_per_token // BYTES_PER_HEAD_ELEMENT),
        dtype=torch.float32,
    )
    page = spec.page_size_bytes
    tensor = KVCacheTensor(
        size=blocks * page, layers=["layer"], layer_stride=blocks * page, block_stride=page
    )
    return KVCacheConfig(
        num_blocks=blocks,
        kv_cache_tensors=[tensor],
        kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)],
    )


def scheduler_config(
    model: str,
    block_size: int,
    cache_config: KVCacheConfig,
    *,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    max_model_len: int,
    asynchronous: bool = False,
    queue: str = "fcfs",
    prefix_caching: bool = True,
) -> VllmConfig:
    """The configuration of a scheduler, to be completed with a connector and its options.

    Args:
        model: path of any model that vLLM can read the configuration of.
        block_size: tokens per block.
        cache_config: the memory that it manages.
        max_num_seqs: as in vLLM.
        max_num_batched_tokens: as in vLLM.
        max_model_len: as in vLLM.
        asynchronous: vLLM's asynchronous scheduling.
        queue: vLLM's scheduling policy.
        prefix_caching: vLLM's prefix caching.
    """
    config = copy.copy(base_config(model, block_size))
    config.model_config = copy.copy(config.model_config)
    config.model_config.max_model_len = max_model_len
    scheduler = config.scheduler_config = copy.copy(config.scheduler_config)
    scheduler.max_num_seqs = max_num_seqs
    scheduler.max_num_batched_tokens = max_num_batched_tokens
    scheduler.max_num_scheduled_tokens = None
    scheduler.async_scheduling = asynchronous
    scheduler.policy = queue
    scheduler.disable_hybrid_kv_cache_manager = True
    config.cache_config = copy.copy(config.cache_config)
    config.cache_config.num_gpu_blocks = cache_config.num_blocks
    config.cache_config.enable_prefix_caching = prefix_caching
    return config
