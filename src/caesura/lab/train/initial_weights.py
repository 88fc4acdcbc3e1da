"""Initial weights that can copy: training then has to learn what to copy, not how.

The residual stream begins with a random code of each token. Heads of layer 0 write the codes of
the previous token and of the one before that beside it. A head of each of the layers 1 to 3 looks
for the place where the last two tokens stood before, and adds the code of what followed there to
a part of the stream that the output layer reads. All of it is only the start: nothing is frozen.
"""

import math

import torch
from torch import Tensor

from caesura.lab.train.demo_model import DemoModel

_CODE = 60
_CONTENT = slice(0, _CODE)
_PREVIOUS = slice(_CODE, 2 * _CODE)
_BEFORE_THAT = slice(2 * _CODE, 3 * _CODE)
_COPIED = slice(3 * _CODE, 4 * _CODE)
_CONSTANT = 4 * _CODE
_CONSTANT_VALUE = 4.0
_COPYING_LAYERS = (1, 2, 3)


def set_initial_weights(model: DemoModel, seed: int) -> None:
    """Set all weights of a model of hidden size 256 with heads of 64.

    Raises:
        ValueError: the model has another shape.
    """
    shape = model.shape
    if (shape.hidden_size, shape.head_size, shape.kv_heads) != (256, 64, 2):
        raise ValueError("initial weights are made for hidden size 256, heads of 64, 2 KV heads")
    generator = torch.Generator().manual_seed(seed)

    def noise(*size: int, deviation: float) -> Tensor:
        return torch.randn(*size, generator=generator) * deviation

    with torch.no_grad():
        code = torch.sign(noise(shape.vocab_size, _CODE, deviation=1.0))
        model.embed_tokens.copy_(noise(shape.vocab_size, 256, deviation=0.3))
        model.embed_tokens[:, _CONTENT] = code
        model.embed_tokens[:, _CONSTANT] = _CONSTANT_VALUE
        model.embed_tokens[:, _CODE:_CONSTANT] *= 0.1
        model.lm_head.copy_(noise(shape.vocab_size, 256, deviation=0.02))
        model.lm_head[:, _COPIED] = 0.1 * code
        for block in model.blocks:
            for name in ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"):
                weight = getattr(block, name)
                weight.copy_(noise(*weight.shape, deviation=0.04))
            for name in ("o_proj", "down_proj"):
                weight = getattr(block, name)
                weight.copy_(noise(*weight.shape, deviation=0.02))
        _look_back(model)
        matcher = torch.linalg.qr(noise(_CODE, 32, deviation=1.0))[0].T
        other = torch.linalg.qr(noise(_CODE, 32, deviation=1.0))[0].T
        for layer in _COPYING_LAYERS:
            _match_and_copy(model, layer, matcher, other)


def _look_back(model: DemoModel) -> None:
    """Heads 0 and 1 of layer 0 attend to the token one and two places back."""
    block = model.blocks[0]
    pairs = 16  # the fast rotations tell neighbours apart
    scale = math.sqrt(256) / math.sqrt(_CODE + _CONSTANT_VALUE**2 + 2)
    weight = 8.6 / (scale * _CONSTANT_VALUE)
    angles = 10000.0 ** (-torch.arange(pairs) / 32)
    block.k_proj[:64] = 0
    block.k_proj[:pairs, _CONSTANT] = weight
    for head, distance in enumerate((1, 2)):
        rows = slice(64 * head, 64 * head + 64)
        block.q_proj[rows] = 0
        block.q_proj[64 * head : 64 * head + pairs, _CONSTANT] = weight * torch.cos(
            angles * distance
        )
        second = 64 * head + 32
        block.q_proj[second : second + pairs, _CONSTANT] = -weight * torch.sin(angles * distance)
        target = (_PREVIOUS, _BEFORE_THAT)[head]
        block.o_proj[:, rows] = 0
        block.o_proj[target, 64 * head : 64 * head + _CODE] = torch.eye(_CODE)
    block.v_proj[:64] = 0
    block.v_proj[:_CODE, _CONTENT] = torch.eye(_CODE) / scale


def _match_and_copy(model: DemoModel, layer: int, matcher: Tensor, other: Tensor) -> None:
    """Head 0 of a layer attends to what followed the last two tokens before."""
    block = model.blocks[layer]
    slow = [*range(16, 32), *range(48, 64)]  # the slow rotations hardly see the distance
    gain = 1.4
    block.q_proj[:64] = 0
    block.k_proj[:64] = 0
    queries, keys = torch.zeros(32, 256), torch.zeros(32, 256)
    queries[:, _CONTENT] = gain * matcher
    queries[:, _PREVIOUS] = 0.6 * gain * other
    keys[:, _PREVIOUS] = gain * matcher
    keys[:, _BEFORE_THAT] = 0.6 * gain * other
    block.q_proj[slow] = queries
    block.k_proj[slow] = keys
    block.v_proj[:64] = 0
    block.v_proj[:_CODE, _CONTENT] = torch.eye(_CODE)
    block.o_proj[:, :64] = 0
    block.o_proj[_COPIED, :_CODE] = 0.5 * torch.eye(_CODE)
