"""Batches of training sequences: sequences of about the same length, padded to the longest."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from caesura.lab.train.render import Sample


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences side by side.

    Attributes:
        tokens: (sequences, length).
        covered: (sequences, length): which tokens the loss covers.
    """

    tokens: Tensor
    covered: Tensor


def batches(
    draw: Callable[[], Sample], tokens_per_batch: int, pad: int, source: random.Random, pool: int
) -> Iterator[Batch]:
    """Batches without end. Of each `pool` sequences those of similar length go together."""
    while True:
        samples = sorted((draw() for _ in range(pool)), key=lambda sample: len(sample.tokens))
        groups: list[list[Sample]] = [[]]
        for sample in samples:
            if (len(groups[-1]) + 1) * len(sample.tokens) > tokens_per_batch:
                groups.append([])
            groups[-1].append(sample)
        groups = groups[:-1] if len(groups) > 1 else groups
        source.shuffle(groups)
        for group in groups:
            yield _padded(group, pad)


def _padded(samples: list[Sample], pad: int) -> Batch:
    length = max(len(sample.tokens) for sample in samples)
    tokens = torch.full((len(samples), length), pad)
    covered = torch.zeros((len(samples), length), dtype=torch.bool)
    for row, sample in enumerate(samples):
        tokens[row, : len(sample.tokens)] = torch.tensor(sample.tokens)
        covered[row, : len(sample.tokens)] = torch.tensor(sample.written)
    return Batch(tokens, covered)
