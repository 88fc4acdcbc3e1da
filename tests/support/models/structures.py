"""Random models of each structure of a KV cache: small enough to be written in a second.

They have no tokenizer: start engines with `skip_tokenizer_init`.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PretrainedConfig

VOCABULARY = 1024
LOCAL_WINDOW = 64
SHARPNESS = 2.0
"""Factor on queries and keys: attention that picks few tokens makes every one of them matter."""

_SHARP = ("q_proj", "k_proj", "kv_a_proj", "qkvz")
_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "bos_token_id": VOCABULARY - 1,
    "eos_token_id": VOCABULARY - 2,
    "pad_token_id": VOCABULARY - 3,
    "tie_word_embeddings": False,
}
_LOCAL = {
    "num_hidden_layers": 6,
    "sliding_window": LOCAL_WINDOW,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
}


@dataclass(frozen=True)
class Structure:
    """A structure of a KV cache, and a model that has it.

    Attributes:
        config: of transformers.
        elements_per_token: numbers in the KV cache for each token, over all layers that keep
            tokens, in one group of full attention.
        options: of the configuration.
        dtype: of weights and KV cache.
    """

    config: type[PretrainedConfig]
    elements_per_token: int
    options: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32

    def block_bytes(self, block_size: int, element_bytes: int | None = None) -> int:
        """Bytes of a block of so many tokens, with elements as wide as the weights' or given."""
        width = self.dtype.itemsize if element_bytes is None else element_bytes
        return block_size * self.elements_per_token * width

    def configuration(self) -> PretrainedConfig:
        """Of the model."""
        return self.config(**{**_COMMON, **self.options})

    def write(self, folder: Path, seed: int = 0) -> str:
        """Write a model with random weights into a folder; returns the path as engines take it."""
        config = self.configuration()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    _fill(name, weight)
        model.to(self.dtype).save_pretrained(folder)
        return str(folder)


FULL = Structure(transformers.Qwen3Config, 2 * 128, {"num_hidden_layers": 2})
"""Full attention, all layers alike."""

SLIDING_AND_FULL = Structure(transformers.Gemma3TextConfig, 6 * 128, _LOCAL)
"""Sliding windows and full attention, with pages of one size: like Gemma 3."""

TWO_PAGE_SIZES = Structure(
    transformers.Gemma4TextConfig,
    4 * 128 + 2 * 256,
    {**_LOCAL, "global_head_dim": 128, "hidden_size_per_layer_input": 0},
)
"""Layers of full attention have larger heads than the others: like Gemma 4."""

CHUNKED = Structure(
    transformers.Llama4TextConfig,
    4 * 128,
    {
        "num_hidden_layers": 4,
        "attention_chunk_size": LOCAL_WINDOW,
        "layer_types": ["chunked_attention"] * 3 + ["full_attention"],
        "no_rope_layers": [1, 1, 1, 0],
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "intermediate_size_mlp": 256,
        "interleave_moe_layer_step": 2,
        "attn_temperature_tuning": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
)
"""Three layers that attend within chunks to one of full attention, and experts: like Llama 4."""

SLIDING_ONLY = Structure(
    transformers.MistralConfig, 2 * 128, {"num_hidden_layers": 2, "sliding_window": LOCAL_WINDOW}
)
"""A sliding window in all layers: like Mistral 7B v0.1."""

LATENT = Structure(
    transformers.DeepseekV2Config,
    2 * 576,
    {
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "kv_lora_rank": 512,
        "q_lora_rank": None,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 64,
        "v_head_dim": 64,
        "first_k_dense_replace": 2,
        "n_routed_experts": 2,
        "n_shared_experts": 1,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 64,
    },
)
"""Multi-head latent attention: like DeepSeek V2."""

RECURRENT = Structure(
    transformers.Qwen3NextConfig,
    128,
    {
        "num_hidden_layers": 4,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 64,
        "linear_value_head_dim": 64,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 64,
    },
    dtype=torch.bfloat16,  # the only one that its CPU kernels take
)
"""Gated delta nets and full attention: like Qwen3-Next."""


DRAFT_ELEMENTS_PER_TOKEN = 2 * 128
"""What a draft by `write_eagle_draft` adds to a token: its heads are more than those of `FULL`."""


def write_eagle_draft(folder: Path, seed: int = 1) -> str:
    """Write an EAGLE draft of one layer for any of these models; it knows nothing of them, and
    most of what it drafts is rejected."""
    config = transformers.LlamaConfig(
        **{**_COMMON, "num_hidden_layers": 1, "num_key_value_heads": 2}
    )
    hidden = config.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = AutoModelForCausalLM.from_config(config, dtype=torch.float32).model.layers[0]
        weights = {f"layers.0.{name}": weight for name, weight in layer.state_dict().items()}
        weights["fc.weight"] = torch.empty(hidden, 2 * hidden)
        for name, weight in weights.items():
            _fill(name, weight)
    del weights["layers.0.input_layernorm.weight"]  # a draft has none
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors")
    return str(folder)


def _fill(name: str, weight: torch.Tensor) -> None:
    """Weights that keep activations at their scale; norms and scalars stay as they are."""
    if weight.dim() < 2:
        return
    if "embed" in name:
        weight.normal_()
        return
    sharpness = SHARPNESS if any(part in name for part in _SHARP) else 1.0
    weight.normal_(std=sharpness / math.sqrt(weight.shape[-1]))
