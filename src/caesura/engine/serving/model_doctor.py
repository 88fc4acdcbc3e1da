"""`caesura doctor MODEL`: what a model keeps of a context, what its pauses cost, what is supported.

No weights are loaded, and none have to be there: the model's configuration is enough.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from caesura.engine.config import CaesuraConfig
from caesura.engine.flags import additional_config, kv_transfer_config
from caesura.engine.serving.doctor import Finding, Verdict
from caesura.engine.serving.model_files import require_model
from caesura.engine.serving.model_layers import build_layers, group_layers
from caesura.engine.support import layers_refusal, refusals, window_note
from caesura.errors import ConfigurationError
from caesura.units import format_size

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheSpec

    from caesura.engine.serving.model_layers import Layers

EXAMPLE_TOKENS = 8192
"""Length of the context whose pause is an example."""


def examine_model(model: str, arguments: Sequence[str] = ()) -> Sequence[Finding]:
    """Look at a model: its layers, their KV cache, and whether it can be paused.

    Args:
        model: as for `caesura serve`.
        arguments: of `vllm serve`, such as `--kv-cache-dtype fp8`.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # vLLM says much, as if it started
    try:
        return list(_findings(model, arguments))
    finally:
        logging.disable(disabled)


def _findings(model: str, arguments: Sequence[str]) -> Iterator[Finding]:
    try:
        model = require_model(model)
        config = _configuration(model, arguments)
    except (ConfigurationError, OSError, ValueError) as error:
        yield Finding("Model", Verdict.BAD, f"vLLM does not take it: {_first_line(error)}")
        return
    reasons = list(refusals(config))
    try:
        layers = build_layers(config)
    except Exception as error:  # of any model's code, for any lack of this machine
        yield _by_configuration(config, error)
    else:
        yield Finding("Layers", Verdict.GOOD, f"{_architecture(config)}: {describe(layers)}")
        yield _costs(layers, min(EXAMPLE_TOKENS, config.model_config.max_model_len))
        if not reasons:
            groups = _groups(config, layers)
            yield groups
            if groups.verdict is Verdict.BAD:
                return
    for reason in reasons:
        yield Finding("Pauses", Verdict.BAD, reason)
    if not reasons:
        tokens = config.model_config.max_model_len
        yield Finding("Pauses", Verdict.GOOD, f"supported, with contexts of up to {tokens} tokens")


def describe(layers: "Layers") -> str:
    """How many layers there are of each kind."""
    kinds = Counter(_kind(spec) for spec in layers.values())
    return ", ".join(f"{count} of {kind}" for kind, count in kinds.items()) or "none with a cache"


def bytes_per_token(layers: "Layers") -> int:
    """What each token of a context adds to the KV cache, over all ranks that share layers."""
    return sum(spec.page_size_bytes // spec.block_size for spec in layers.values() if _grows(spec))


def bytes_per_context(layers: "Layers") -> int:
    """What each context takes, whatever its length: recurrent states."""
    return sum(spec.page_size_bytes for spec in layers.values() if not _grows(spec))


def _configuration(model: str, arguments: Sequence[str]) -> "VllmConfig":
    """vLLM's configuration, as `caesura serve` would have it made."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    parsed = parser.parse_args(["--model", model, *arguments])
    engine = EngineArgs.from_cli_args(parsed)
    engine.skip_tokenizer_init = True
    engine.kv_transfer_config = kv_transfer_config()
    engine.additional_config = additional_config(CaesuraConfig())
    return engine.create_engine_config()


def _architecture(config: "VllmConfig") -> str:
    return config.model_config.architectures[0]


def _groups(config: "VllmConfig", layers: "Layers") -> Finding:
    """The groups that vLLM makes of layers: whether they can be paused, and what windows cost."""
    try:
        groups = group_layers(config, layers)
    except (NotImplementedError, TypeError, ValueError) as error:
        text = f"vLLM cannot keep these layers together: {_first_line(error)}"
        return Finding("KV groups", Verdict.BAD, text)
    reason = layers_refusal(groups)
    if reason is not None:
        return Finding("KV groups", Verdict.BAD, reason)
    text = ", ".join(f"{len(group.layer_names)} layers" for group in groups)
    if config.scheduler_config.disable_hybrid_kv_cache_manager:
        note = window_note(layers, config.model_config.max_model_len)
        if note is not None:
            return Finding("KV groups", Verdict.NOTE, f"one of {text}; {note}")
    return Finding("KV groups", Verdict.GOOD, f"{len(groups)}, of {text}")


def _costs(layers: "Layers", tokens: int) -> Finding:
    token, fixed = bytes_per_token(layers), bytes_per_context(layers)
    parts = [f"{format_size(token)} per token"]
    if fixed:
        parts.append(f"{format_size(fixed)} per context whatever its length")
    parts.append(f"{format_size(fixed + token * tokens)} for a pause of {tokens} tokens")
    if token:
        parts.append(f"1 GiB of --host-memory holds {2**30 // token} tokens")
    return Finding("KV cache", Verdict.GOOD, "; ".join(parts))


def _by_configuration(config: "VllmConfig", error: Exception) -> Finding:
    model = config.model_config
    heads, size = model.get_total_num_kv_heads(), model.get_head_size()
    count = model.get_num_layers(config.parallel_config)
    what = f"latent attention of {size}" if model.use_mla else f"{heads} KV heads of {size}"
    text = (
        f"{_architecture(config)} cannot be built here ({_first_line(error)}); by its "
        f"configuration it has {count} layers, {what}"
    )
    return Finding("Layers", Verdict.NOTE, text)


def _kind(spec: "KVCacheSpec") -> str:
    from vllm.v1.kv_cache_interface import (
        AttentionSpec,
        MambaSpec,
        MLAAttentionSpec,
        SlidingWindowSpec,
        get_kv_cache_spec_kind,
    )

    kind = get_kv_cache_spec_kind(spec).value.replace("_", " ")
    if isinstance(spec, MambaSpec):
        return f"recurrent state ({format_size(spec.page_size_bytes)})"
    if isinstance(spec, MLAAttentionSpec):
        return f"latent attention ({spec.head_size})"
    if isinstance(spec, SlidingWindowSpec):
        kind = f"sliding window of {spec.sliding_window}"
    if isinstance(spec, AttentionSpec):
        return f"{kind} ({spec.num_kv_heads} KV heads of {spec.head_size})"
    return type(spec).__name__


def _grows(spec: "KVCacheSpec") -> bool:
    from vllm.v1.kv_cache_interface import MambaSpec

    return not isinstance(spec, MambaSpec)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
