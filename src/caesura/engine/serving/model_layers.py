"""What the layers of a model keep for each token, without its weights: vLLM's own answers."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheGroupSpec, KVCacheSpec

    Layers = Mapping[str, KVCacheSpec]


def build_layers(config: "VllmConfig") -> "Layers":
    """The KV cache of each layer, as on one rank that has the whole model.

    The model is built as vLLM builds it, on a device without memory. Nothing is loaded.

    Raises:
        Exception: whatever vLLM raises where the model cannot be built on this machine, such as for
            kernels that are not here.
    """
    from vllm.config import ParallelConfig, set_current_vllm_config
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype
    from vllm.v1.worker.gpu.attn_utils import get_kv_cache_spec

    config.parallel_config = ParallelConfig()
    with (
        set_current_vllm_config(config),
        _one_rank(),
        set_default_torch_dtype(config.model_config.dtype),
        torch.device("meta"),
    ):
        initialize_model(config)
        return get_kv_cache_spec(config)


def group_layers(config: "VllmConfig", layers: "Layers") -> "list[KVCacheGroupSpec]":
    """The KV cache groups that vLLM makes of layers.

    Raises:
        ValueError: vLLM can make none of them with these settings.
    """
    from vllm.v1.attention.backends.utils import resolve_kv_cache_layout
    from vllm.v1.core.kv_cache_utils import get_kv_cache_groups
    from vllm.v1.kv_cache_layout import KVCacheLayout

    # Which layout an attention backend prefers does not matter for the groups.
    names = [layout.name for layout in KVCacheLayout]
    resolve_kv_cache_layout(config, [names], layers.values())
    return get_kv_cache_groups(config, dict(layers))


@contextmanager
def _one_rank() -> Iterator[None]:
    """vLLM's idea of a cluster, of one process."""
    from vllm.distributed import (
        destroy_distributed_environment,
        destroy_model_parallel,
        ensure_model_parallel_initialized,
        init_distributed_environment,
    )

    with tempfile.TemporaryDirectory() as folder:
        address = f"file://{Path(folder) / 'rank'}"
        init_distributed_environment(1, 0, address, 0, "gloo")
        try:
            ensure_model_parallel_initialized(1, 1)
            yield
        finally:
            destroy_model_parallel()
            destroy_distributed_environment()
