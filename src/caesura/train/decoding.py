"""Greedy decoding of many sessions at once, with a KV cache."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caesura.cml import Marker
from caesura.train.codec import Codec
from caesura.train.demo_model import Block, DemoModel
from caesura.train.simulate import Simulation


class Cache:
    """Keys and values of sequences of different lengths, side by side.

    Args:
        model: whose they are.
        sequences: how many.
        length: the longest.
    """

    def __init__(self, model: DemoModel, sequences: int, length: int) -> None:
        shape = model.shape
        size = (shape.layers, 2, sequences, shape.kv_heads, length, shape.head_size)
        self._kept = torch.zeros(size, dtype=model.dtype)

    def write(self, layer: int, positions: Tensor, k: Tensor, v: Tensor, until: int) -> Tensor:
        """Keep keys and values at their positions; all up to `until`: (2, sequences, ...).

        Args:
            layer: of the model.
            positions: (sequences, tokens).
            k: (sequences, kv heads, tokens, head size).
            v: as `k`.
            until: end of the longest sequence.
        """
        kept = self._kept[layer]
        rows = torch.arange(len(positions))[:, None]
        for target, new in zip(kept, (k, v), strict=True):
            target[rows, :, positions] = new.transpose(1, 2)
        return kept[:, :, :, :until]

    def select(self, rows: Tensor) -> None:
        """Drop all sequences but these."""
        self._kept = self._kept[:, :, rows]


def extend(model: DemoModel, cache: Cache, tokens: Tensor, positions: Tensor) -> Tensor:
    """Feed tokens at their positions; the scores of what follows each sequence's last.

    Args:
        model: that decodes.
        cache: what came before.
        tokens: (sequences, tokens).
        positions: (sequences, tokens), ascending.
    """
    until = int(positions.max()) + 1
    x = F.embedding(tokens, model.embed_tokens).to(model.dtype)
    cos, sin = model.cos[positions][:, None], model.sin[positions][:, None]
    seen = torch.arange(until)[None, None] <= positions[:, :, None]
    mask = torch.zeros(seen.shape, dtype=model.dtype).masked_fill(~seen, -torch.inf)[:, None]
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        q, k, v = block.qkv(x, cos, sin)
        kept_k, kept_v = cache.write(layer, positions, k, v, until)
        x = block.attend(x, q, kept_k, kept_v, mask)
    return model.scores(x[:, -1:])[:, 0]


@torch.no_grad()
def write_all(
    model: DemoModel, codec: Codec, simulations: Sequence[Simulation], most_tokens: int
) -> None:
    """Let the model write all sessions, until they are over or have `most_tokens`."""
    live = list(simulations)
    cache = Cache(model, len(live), most_tokens + 1)
    start = min(len(simulation.tokens) for simulation in live) - 1
    if start > 0:
        prompts = torch.tensor([simulation.tokens[:start] for simulation in live])
        extend(model, cache, prompts, torch.arange(start).expand(len(live), -1))
    fed = [start] * len(live)
    forbidden = codec.symbols[Marker.INTR]
    while live:
        tokens = torch.tensor([[s.tokens[n]] for s, n in zip(live, fed, strict=True)])
        scores = extend(model, cache, tokens, torch.tensor(fed)[:, None])
        scores[:, forbidden] = -torch.inf
        choices: list[int] = scores.argmax(-1).tolist()
        for row, simulation in enumerate(live):
            fed[row] += 1
            if fed[row] == len(simulation.tokens):
                simulation.offer(choices[row])
        going = [
            row
            for row, simulation in enumerate(live)
            if not simulation.is_over and len(simulation.tokens) <= most_tokens
        ]
        if len(going) < len(live):
            cache.select(torch.tensor(going, dtype=torch.long))
            live = [live[row] for row in going]
            fed = [fed[row] for row in going]
