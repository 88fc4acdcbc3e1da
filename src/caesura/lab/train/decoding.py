"""Greedy decoding of many sessions at once, with a KV cache."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from caesura.cml import Marker
from caesura.lab.train.demo_model import Block, DemoModel
from caesura.lab.train.session_codec import SessionCodec
from caesura.lab.train.session_simulation import Simulation


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


@dataclass(slots=True)
class _Row:
    """A session, and how many of its tokens the model has read."""

    simulation: Simulation
    read: int
    most_tokens: int

    @property
    def is_live(self) -> bool:
        simulation = self.simulation
        return not simulation.is_over and len(simulation.tokens) <= self.most_tokens

    @property
    def position(self) -> int:
        """Of the token to be read next; of one that was read before, once it is over."""
        return self.read if self.is_live else self.read - 1


_LIVE_SHARE = 0.8
"""When fewer are live, the cache is copied without the others."""


@torch.no_grad()
def write_all(
    model: DemoModel, codec: SessionCodec, simulations: Sequence[Simulation], most_tokens: int
) -> None:
    """Let the model write all sessions, until they are over or have `most_tokens`."""
    start = min(len(simulation.tokens) for simulation in simulations) - 1
    rows = [_Row(simulation, start, most_tokens) for simulation in simulations]
    cache = Cache(model, len(rows), most_tokens + 1)
    prompts = torch.tensor([simulation.tokens[:start] for simulation in simulations])
    extend(model, cache, prompts, torch.arange(start).expand(len(rows), -1))
    forbidden = codec.symbols[Marker.INTR]
    live = len(rows)
    while live:
        if live < _LIVE_SHARE * len(rows):
            going = [index for index, row in enumerate(rows) if row.is_live]
            cache.select(torch.tensor(going))
            rows = [rows[index] for index in going]
        positions = torch.tensor([[row.position] for row in rows])
        tokens = torch.tensor([[row.simulation.tokens[row.position]] for row in rows])
        scores = extend(model, cache, tokens, positions)
        scores[:, forbidden] = -torch.inf
        choices: list[int] = scores.argmax(-1).tolist()
        for row, choice in zip(rows, choices, strict=True):
            if row.is_live:
                row.read += 1
                if row.read == len(row.simulation.tokens):
                    row.simulation.offer(choice)
        live = sum(row.is_live for row in rows)
