"""Which models and settings pauses work with; of others, why not and what to do instead."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from caesura.errors import ConfigurationError

if TYPE_CHECKING:  # the command line imports this indirectly, and must not wait for vLLM
    from vllm.config import ModelConfig, VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheGroupSpec, KVCacheSpec

_HIDDEN_STATES = "extract_hidden_states"

_COMPRESSED = (
    "keeps one state for several tokens (compressed attention), and a context that ends within "
    "such a state cannot be resumed yet"
)
_LATENT_WINDOWS = (
    "has sliding windows of latent attention, of which vLLM cannot keep all tokens, as it has to "
    "for pauses"
)
_BY_TYPE = {
    "deepseek_v4": _COMPRESSED,
    "deepseek_v41": _COMPRESSED,
    "dots3_note": _LATENT_WINDOWS,
}
"""What vLLM's own configuration does not say of a model, by the type of its text model."""


def require_supported(config: "VllmConfig") -> None:
    """Refuse what pauses do not work with, as far as it is known before weights are loaded.

    Raises:
        ConfigurationError: one sentence that says why, and one that says what to do.
    """
    reason = next(refusals(config), None)
    if reason is not None:
        raise ConfigurationError(reason)


def check_supported(
    vllm_config: "VllmConfig",
    kv_cache_config: "KVCacheConfig",
    block_size: int,
    hash_block_size: int | None,
) -> None:
    """Refuse what would be silently wrong, also where vLLM was started without `caesura serve`.

    Raises:
        ConfigurationError: says what is not supported and what to do.
    """
    require_supported(vllm_config)
    check_layers(kv_cache_config)
    one_group = len(kv_cache_config.kv_cache_groups) == 1
    if block_size <= 0 or (one_group and (hash_block_size or block_size) != block_size):
        raise ConfigurationError(
            f"Caesura needs one block size for hashing and allocation; found {block_size} and "
            f"{hash_block_size}. Set --block-size explicitly (16 or 32)."
        )


def check_layers(kv_cache_config: "KVCacheConfig") -> None:
    """Refuse layers whose blocks do not stay as a context needs them.

    Raises:
        ConfigurationError: says which, and what to do.
    """
    reason = layers_refusal(kv_cache_config.kv_cache_groups)
    if reason is not None:
        raise ConfigurationError(reason)


@contextmanager
def supported_only() -> Iterator[None]:
    """Refuse each configuration that vLLM makes meanwhile and that pauses do not work with.

    vLLM's server makes it from its own flags, and loads the weights next: there is no other moment
    at which all is known and nothing was loaded.

    Raises:
        ConfigurationError: where vLLM makes such a configuration; see `require_supported`.
    """
    from vllm.engine.arg_utils import EngineArgs

    make = EngineArgs.create_engine_config

    def made(*args: Any, **options: Any) -> "VllmConfig":
        config = make(*args, **options)
        require_supported(config)
        return config

    EngineArgs.create_engine_config = made
    try:
        yield
    finally:
        EngineArgs.create_engine_config = make


def refusals(config: "VllmConfig") -> Iterator[str]:
    """Why pauses do not work with this model and these settings; nothing if they do."""
    import vllm.envs
    from vllm.platforms import current_platform

    model, parallel = config.model_config, config.parallel_config
    for reason in model_refusals(model):
        yield f"{model.model} {reason}. Serve it with `vllm serve`."
    prefix_caching = config.cache_config.enable_prefix_caching
    if model.use_mla and current_platform.is_cpu() and not prefix_caching:
        yield (
            f"{model.model} has multi-head latent attention, for which vLLM caches no prefixes on "
            "a CPU without AMX. Run it on a GPU, or serve it with `vllm serve`."
        )
    elif not prefix_caching:
        yield (
            "Caesura needs prefix caching: a paused context is found again by its block hashes. "
            "Remove --no-enable-prefix-caching."
        )
    if parallel.pipeline_parallel_size > 1:
        yield (
            "Pipeline parallelism is not supported: it has an iteration under way for each stage, "
            "and a pause reckons with two at most. Use --tensor-parallel-size instead."
        )
    if max(parallel.decode_context_parallel_size, parallel.prefill_context_parallel_size) > 1:
        yield (
            "Context parallelism is not supported: it spreads the tokens of a block over ranks. "
            "Leave out --decode-context-parallel-size and --prefill-context-parallel-size."
        )
    if config.attention_config.hisparse_config is not None:
        yield (
            "HiSparse is not supported: it moves KV blocks to host memory by itself. Leave "
            "hisparse_config out of --attention-config."
        )
    speculative = config.speculative_config
    if speculative is not None and speculative.method == _HIDDEN_STATES:
        yield (
            "Extraction of hidden states is not supported: they are in KV blocks that copies of "
            "contexts would not bring back. Use `vllm serve` for it."
        )
    if vllm.envs.VLLM_USE_RUST_FRONTEND:
        yield (
            "VLLM_USE_RUST_FRONTEND is set, and vLLM's frontend in Rust runs no plug-ins: neither "
            "sessions nor continued contexts would work. Unset it."
        )


def model_refusals(model: "ModelConfig") -> Iterator[str]:
    """What it is about a model that pauses do not work with, as the rest of a sentence about it."""
    if model.runner_type == "pooling":
        yield "is a pooling model, for embeddings or scores: it generates nothing that could pause"
    if model.is_encoder_decoder:
        yield "is an encoder-decoder model: what its decoder has read cannot be told by its tokens"
    if model.is_attention_free:
        yield "keeps a recurrent state instead of attention, which cannot be paused yet"
    elif model.is_hybrid:
        yield (
            "has recurrent layers (Mamba, gated delta nets or the like) beside attention, and "
            "their state cannot be paused yet"
        )
    by_type = _BY_TYPE.get(model.hf_text_config.model_type)
    if by_type is not None:
        yield by_type
    if model.is_diffusion:
        yield "generates by diffusion, and not one token after another"
    if model.rswa_window is not None:
        yield (
            "forgets generated tokens and no prompt (R-SWA), and what a session has generated "
            "becomes its prompt"
        )


def layers_refusal(groups: "Sequence[KVCacheGroupSpec]") -> str | None:
    """Why pauses do not work with the KV cache of these layers, None if they do.

    A layer is accepted by its exact class: what derives from full attention may drop or add blocks.
    """
    from vllm.v1.kv_cache_interface import (
        ChunkedLocalAttentionSpec,
        FullAttentionSpec,
        MLAAttentionSpec,
        SlidingWindowSpec,
        iter_layer_specs,
    )

    specs = [spec for group in groups for spec in iter_layer_specs(group.kv_cache_spec)]
    kinds = dict.fromkeys(type(spec) for spec in specs)
    full = kinds.keys() & {FullAttentionSpec, MLAAttentionSpec}
    local = kinds.keys() & {SlidingWindowSpec, ChunkedLocalAttentionSpec}
    if full and kinds.keys() == full | local and (local or len(groups) == 1):
        for spec in specs:
            if isinstance(spec, ChunkedLocalAttentionSpec) and (
                spec.attention_chunk_size % spec.block_size
            ):
                return (
                    f"This model attends within chunks of {spec.attention_chunk_size} tokens, and "
                    f"blocks of {spec.block_size} do not end where they do: vLLM would take "
                    "contexts for cached that are not. Set --block-size to one that divides it."
                )
        if all(spec.tokens_per_state == 1 for spec in specs):
            return None
        return f"This model {_COMPRESSED}. Serve it with `vllm serve`."
    names = ", ".join(kind.__name__ for kind in kinds) or "none"
    advice = "Serve it with `vllm serve`."
    if kinds.keys() == {SlidingWindowSpec}:
        advice = (
            "Serve it with `vllm serve`, or give --disable-sliding-window, with which contexts are "
            "no longer than the window."
        )
    return (
        "Caesura supports models whose layers are one KV cache group of full or multi-head latent "
        "attention, or have sliding windows or chunks beside it; this model has "
        f"{len(groups)} ({names}). {advice}"
    )


def window_note(layers: "Mapping[str, KVCacheSpec]", max_model_len: int) -> str | None:
    """What it costs to keep layers with a window like full attention; None if none has one.

    Args:
        layers: the specification of each layer, as the model has it.
        max_model_len: tokens of the longest context.
    """
    kept, needed, windows = 0.0, 0.0, set[int]()
    for spec in layers.values():
        window = getattr(spec, "sliding_window", None)
        window = window or getattr(spec, "attention_chunk_size", None)
        token_bytes = spec.page_size_bytes / spec.block_size
        kept += token_bytes * max_model_len
        needed += token_bytes * min(max_model_len, window or max_model_len)
        if window:
            windows.add(window)
    if needed == kept:
        return None
    return (
        f"layers that see no more than {' or '.join(map(str, sorted(windows)))} tokens keep all of "
        f"a context, as full attention does: one of {max_model_len} tokens takes "
        f"{kept / needed:.1f} times the KV memory that it takes under `vllm serve`"
    )
