"""The demo model: a small Llama in plain torch, for training on a CPU, and its export.

Attention is plain batched products: for short sequences faster here than torch's fused one.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Shape of the model, by Hugging Face's names for Llama in `config`."""

    vocab_size: int
    hidden_size: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    ffn_size: int = 576
    max_tokens: int = 2048
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-6

    def config(self, eos: int, pad: int) -> dict[str, object]:
        """The content of config.json."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": "bfloat16",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.ffn_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_size,
            "hidden_act": "silu",
            "max_position_embeddings": self.max_tokens,
            "rms_norm_eps": self.norm_epsilon,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": eos,
            "pad_token_id": pad,
        }


class Block(nn.Module):
    """One layer, its weights named as in Hugging Face's checkpoints."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        hidden, kv = shape.hidden_size, shape.kv_heads * shape.head_size
        q = shape.heads * shape.head_size
        self.shape = shape
        self.input_layernorm = nn.Parameter(torch.ones(hidden))
        self.post_attention_layernorm = nn.Parameter(torch.ones(hidden))
        self.q_proj = nn.Parameter(torch.empty(q, hidden))
        self.k_proj = nn.Parameter(torch.empty(kv, hidden))
        self.v_proj = nn.Parameter(torch.empty(kv, hidden))
        self.o_proj = nn.Parameter(torch.empty(hidden, q))
        self.gate_proj = nn.Parameter(torch.empty(shape.ffn_size, hidden))
        self.up_proj = nn.Parameter(torch.empty(shape.ffn_size, hidden))
        self.down_proj = nn.Parameter(torch.empty(hidden, shape.ffn_size))

    def qkv(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values: (batch, heads, tokens, head size)."""
        shape, dtype = self.shape, x.dtype
        y = _norm(x, self.input_layernorm, shape.norm_epsilon)
        weights = torch.cat([self.q_proj, self.k_proj, self.v_proj]).to(dtype)
        y = F.linear(y, weights)
        y = y.view(*y.shape[:2], shape.heads + 2 * shape.kv_heads, shape.head_size)
        y = y.transpose(1, 2)
        rotated, v = y.split([shape.heads + shape.kv_heads, shape.kv_heads], dim=1)
        rotated = rotated * cos + _half_turn(rotated) * sin
        q, k = rotated.split([shape.heads, shape.kv_heads], dim=1)
        return q, k, v

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Add what attention and the feed-forward layer give to the residual stream `x`.

        Args:
            x: (batch, queries, hidden).
            q: (batch, heads, queries, head size).
            k: (batch, kv heads, keys, head size).
            v: as `k`.
            mask: (batch or 1, 1, queries, keys): 0, or minus infinity.
        """
        shape, dtype = self.shape, x.dtype
        batch, _, queries, size = q.shape
        group = shape.heads // shape.kv_heads
        q = q.reshape(batch, shape.kv_heads, group * queries, size)
        scores = torch.matmul(q, k.transpose(-1, -2)) * (1 / math.sqrt(size))
        scores = scores.view(batch, shape.heads, queries, -1) + mask
        weights = torch.softmax(scores, dim=-1)
        weights = weights.view(batch, shape.kv_heads, group * queries, -1)
        out = torch.matmul(weights, v).view(batch, shape.heads, queries, size)
        out = out.transpose(1, 2).reshape(batch, queries, shape.heads * size)
        x = x + F.linear(out, self.o_proj.to(dtype))
        y = _norm(x, self.post_attention_layernorm, shape.norm_epsilon)
        gate, up = F.linear(y, torch.cat([self.gate_proj, self.up_proj]).to(dtype)).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, self.down_proj.to(dtype))


class DemoModel(nn.Module):
    """The model. Parameters are float32; computation is in `dtype`."""

    def __init__(self, shape: ModelShape, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.shape = shape
        self.dtype = dtype
        self.embed_tokens = nn.Parameter(torch.empty(shape.vocab_size, shape.hidden_size))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden_size))
        self.lm_head = nn.Parameter(torch.empty(shape.vocab_size, shape.hidden_size))
        frequencies = shape.rope_theta ** (-torch.arange(0, shape.head_size, 2) / shape.head_size)
        angles = torch.arange(shape.max_tokens)[:, None] * frequencies[None]
        angles = torch.cat([angles, angles], dim=-1)
        self.register_buffer("cos", angles.cos().to(dtype), persistent=False)
        self.register_buffer("sin", angles.sin().to(dtype), persistent=False)

    def hidden(self, tokens: Tensor) -> Tensor:
        """The last hidden states of whole sequences: (batch, tokens, hidden)."""
        length = tokens.shape[1]
        x = F.embedding(tokens, self.embed_tokens).to(self.dtype)
        cos, sin = self.cos[:length], self.sin[:length]
        mask = torch.full((length, length), -torch.inf, dtype=self.dtype).triu(1)
        for block in self.blocks:
            q, k, v = block.qkv(x, cos, sin)
            x = block.attend(x, q, k, v, mask)
        return x

    def scores(self, hidden: Tensor) -> Tensor:
        """Scores of all tokens, float32."""
        normalised = _norm(hidden, self.norm, self.shape.norm_epsilon)
        return F.linear(normalised, self.lm_head.to(self.dtype)).float()

    def loss(self, tokens: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of the covered tokens, and the share that is predicted.

        Args:
            tokens: (batch, length).
            covered: (batch, length): which tokens the model is to write.
        """
        hidden = self.hidden(tokens[:, :-1])[covered[:, 1:]]
        targets = tokens[:, 1:][covered[:, 1:]]
        scores = self.scores(hidden)
        hits = (scores.detach().argmax(-1) == targets).float().mean()
        return F.cross_entropy(scores, targets), hits


def _norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + epsilon)
    return x * scale.to(x.dtype) * weight.to(x.dtype)


def _half_turn(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def _hub_name(name: str) -> str:
    """Name of a parameter in Hugging Face's checkpoints."""
    if name == "lm_head":
        return "lm_head.weight"
    if not name.startswith("blocks."):
        return f"model.{name}.weight"
    _, layer, part = name.split(".")
    folder = "self_attn." if part in _ATTENTION else "" if "norm" in part else "mlp."
    return f"model.layers.{layer}.{folder}{part}.weight"


def export(model: DemoModel, folder: Path, eos: int, pad: int) -> None:
    """Write config.json, generation_config.json and the weights in bfloat16."""
    tensors = {
        _hub_name(name): parameter.detach().to(torch.bfloat16).contiguous()
        for name, parameter in model.named_parameters()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", model.shape.config(eos, pad))
    _write_json(
        folder / "generation_config.json",
        {"do_sample": False, "eos_token_id": eos, "pad_token_id": pad},
    )


def load(folder: Path, dtype: torch.dtype = torch.bfloat16) -> DemoModel:
    """Read what `export` wrote."""
    config = json.loads((folder / "config.json").read_text())
    shape = ModelShape(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_size=config["head_dim"],
        ffn_size=config["intermediate_size"],
        max_tokens=config["max_position_embeddings"],
        rope_theta=config["rope_parameters"]["rope_theta"],
        norm_epsilon=config["rms_norm_eps"],
    )
    model = DemoModel(shape, dtype)
    tensors = load_file(folder / "model.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[_hub_name(name)].float())
    return model


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
