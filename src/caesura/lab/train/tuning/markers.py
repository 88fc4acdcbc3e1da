"""CML's markers as tokens of a model: each begins as the mean of the tokens that spelled it."""

from typing import Any

import torch

from caesura.cml import Marker
from caesura.errors import ConfigurationError


def add_markers(tokenizer: Any) -> dict[str, list[int]]:
    """Make each marker one token of the tokenizer.

    Args:
        tokenizer: a fast tokenizer; is changed.

    Returns:
        For each marker that was new, the tokens that spelled it before.

    Raises:
        ConfigurationError: the tokenizer splits markers also now.
    """
    markers = [marker.value for marker in Marker]
    spelled = {
        marker: tokenizer.encode(marker, add_special_tokens=False)
        for marker in markers
        if marker not in tokenizer.get_vocab()
    }
    tokenizer.add_special_tokens(
        {"additional_special_tokens": markers}, replace_extra_special_tokens=False
    )
    for marker in markers:
        tokens = tokenizer.encode(f"a{marker}b", add_special_tokens=False)
        if tokenizer.convert_tokens_to_ids(marker) not in tokens:
            raise ConfigurationError(
                f"the tokenizer splits {marker}: a model trained for CML needs one token for each "
                "marker; take another base model, or one with a fast tokenizer"
            )
    return spelled


@torch.no_grad()
def begin_markers(model: Any, tokenizer: Any, spelled: dict[str, list[int]]) -> None:
    """Give the model a row for each new marker, in its embeddings and its output layer.

    Args:
        model: a causal language model; is changed.
        tokenizer: after `add_markers`.
        spelled: what that returned.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        # Rows that fill up what the model was padded to are used; it grows only beyond.
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for marker, tokens in spelled.items():
        index = tokenizer.convert_tokens_to_ids(marker)
        for part in _weights(model):
            part[index] = part[tokens].mean(0)


def _weights(model: Any) -> list[torch.Tensor]:
    """All that has a row, or a number, for each token; tied weights once."""
    head = model.get_output_embeddings()
    parts = [model.get_input_embeddings().weight.data]
    if head is not None:
        if head.weight.data_ptr() != parts[0].data_ptr():
            parts.append(head.weight.data)
        if getattr(head, "bias", None) is not None:
            parts.append(head.bias.data)
    return parts
