"""The demo model: a small Llama with random weights, built on first use and kept in the cache.

It needs no download, and it is a real model to vLLM: its outputs are noise, but they are the same
noise each time, they do not run into loops, and they depend on every token before them. That makes
it a sharp test of whether a context came back unharmed from a pause.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from caesura.lab.models.cache import cached_model
from caesura.lab.models.noise_tokenizer import (
    BOS,
    EOS,
    FIRST_WORD_ID,
    PAD,
    TURN_END,
    chat_template,
    save_tokenizer,
    vocabulary,
)

_FORMAT = 1  # raise it when the same configuration is to give other files


@dataclass(frozen=True, slots=True)
class DemoModelConfig:
    """Shape and weights of the demo model.

    The weights are float32, because in half precision the composition of a batch changes the
    rounding often enough to change a greedy choice, and outputs could not be compared token for
    token.

    Attributes:
        vocab_size: tokens; see `caesura.lab.models.noise_tokenizer`.
        hidden_size: width of the residual stream.
        layers: transformer layers.
        heads: query heads; `hidden_size / heads` is the size of one.
        kv_heads: key and value heads.
        ffn_size: width of the feed-forward layers.
        max_tokens: context length.
        attention_gain: factor on query and key weights. At 1 attention is almost an average, and
            greedy decoding falls into loops; at 2 it depends on which token stands where, without
            amplifying rounding errors much.
        head_gain: factor on the output layer, the standard deviation of the logits.
        unspoken_gain: further factor on the logits of all tokens but words, so small that greedy
            decoding never chooses one, unless a grammar admits nothing else.
        seed: seed of the weights.
    """

    vocab_size: int = 1024
    hidden_size: int = 384
    layers: int = 4
    heads: int = 6
    kv_heads: int = 6
    ffn_size: int = 1024
    max_tokens: int = 4096
    attention_gain: float = 2.0
    head_gain: float = 8.0
    unspoken_gain: float = 0.05
    seed: int = 0

    @property
    def head_size(self) -> int:
        """Size of one attention head."""
        return self.hidden_size // self.heads

    def fingerprint(self) -> str:
        """Return 12 hex digits that change whenever the files of the model would."""
        content = [_FORMAT, asdict(self), vocabulary(self.vocab_size), chat_template()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def demo_model_path(
    progress: Callable[[str], None] | None = None,
    *,
    config: DemoModelConfig | None = None,
    cache: Path | None = None,
) -> Path:
    """Return the folder of the demo model, and build it there if it is not there yet.

    Safe to call from several processes at once: each builds in a folder of its own, and the first
    to finish moves it into place.

    Args:
        progress: called with a line for people when there is something to build.
        config: another shape than the default one.
        cache: folder for models, instead of `caesura/models` in the user's cache folder.

    Returns:
        A folder in Hugging Face layout (config, safetensors, fast tokenizer, chat template).

    Raises:
        DemoModelError: the cache folder cannot be written.
        ValueError: `config.vocab_size` is out of range.
    """
    config = config or DemoModelConfig()

    def build(folder: Path) -> None:
        build_demo_model(config, folder)

    return cached_model(f"demo-{config.fingerprint()}", build, progress, cache)


def build_demo_model(config: DemoModelConfig, folder: Path) -> None:
    """Write all files of the demo model into `folder`, which must exist.

    The files depend on nothing but `config`: the same weights on each machine.
    """
    token_ids = {token: index for index, token in enumerate(vocabulary(config.vocab_size))}
    bos_eos_pad = {
        "bos_token_id": token_ids[BOS],
        "eos_token_id": [token_ids[EOS], token_ids[TURN_END]],
        "pad_token_id": token_ids[PAD],
    }
    _write_json(folder / "config.json", {**architecture(config), **bos_eos_pad})
    _write_json(folder / "generation_config.json", bos_eos_pad)
    save_tokenizer(folder, config.vocab_size, config.max_tokens)
    save_file(dict(weights(config)), folder / "model.safetensors", metadata={"format": "pt"})


def architecture(config: DemoModelConfig) -> dict[str, Any]:
    """The shape of the model as Hugging Face's `config.json` has it, without special tokens."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.ffn_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_tokens,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    }


def weights(config: DemoModelConfig) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yield name and value of each tensor, drawn in this order from one generator."""
    generator = np.random.Generator(np.random.PCG64(config.seed))
    hidden, ffn = config.hidden_size, config.ffn_size
    kv_size = config.kv_heads * config.head_size

    def uniform(rows: int, columns: int, deviation: float) -> npt.NDArray[np.float32]:
        draw = generator.random((rows, columns), dtype=np.float32)
        return (draw - np.float32(0.5)) * np.float32(deviation * math.sqrt(12))

    def linear(outputs: int, inputs: int, gain: float = 1.0) -> npt.NDArray[np.float32]:
        return uniform(outputs, inputs, gain / math.sqrt(inputs))

    norm = np.ones(hidden, dtype=np.float32)
    yield "model.embed_tokens.weight", uniform(config.vocab_size, hidden, 1.0)
    for layer in range(config.layers):
        name = f"model.layers.{layer}"
        yield f"{name}.input_layernorm.weight", norm.copy()
        yield f"{name}.self_attn.q_proj.weight", linear(hidden, hidden, config.attention_gain)
        yield f"{name}.self_attn.k_proj.weight", linear(kv_size, hidden, config.attention_gain)
        yield f"{name}.self_attn.v_proj.weight", linear(kv_size, hidden)
        yield f"{name}.self_attn.o_proj.weight", linear(hidden, hidden)
        yield f"{name}.post_attention_layernorm.weight", norm.copy()
        yield f"{name}.mlp.gate_proj.weight", linear(ffn, hidden)
        yield f"{name}.mlp.up_proj.weight", linear(ffn, hidden)
        yield f"{name}.mlp.down_proj.weight", linear(hidden, ffn)
    yield "model.norm.weight", norm.copy()
    head = linear(config.vocab_size, hidden, config.head_gain)
    # Words only: what is generated is readable, encodes to the same tokens again, and never ends
    # a turn by chance.
    head[:FIRST_WORD_ID] *= np.float32(config.unspoken_gain)
    yield "lm_head.weight", head


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
