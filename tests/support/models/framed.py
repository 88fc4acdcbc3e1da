"""A model that writes CML without having learned it: random weights, loud rows for markers."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import load_file, save_file

from caesura.lab.models.noise_model import build_demo_model
from caesura.lab.models.noise_tokenizer import FIRST_WORD_ID, PAD, TOOL_TOKENS, vocabulary
from caesura.session import CallStop, FrameRules
from support.models.small import MODEL

# Added tokens that nothing else uses here; all are made special ones.
_TOKENS = vocabulary(FIRST_WORD_ID + 1)
CALL, TRAP, HEAD, END = (_TOKENS.index(token) for token in TOOL_TOKENS)
INTR = _TOKENS.index(PAD)
# Factors on rows of the output layer; with 1, each of 1024 tokens is as likely as the others.
LOUDNESS = {CALL: 2.0, TRAP: 1.7, HEAD: 2.2, END: 2.4, INTR: 2.4}
END_LOUDNESS = 1.4


def framed_rules(calls: CallStop, *, at_words: bool = True) -> FrameRules:
    return FrameRules(CALL, TRAP, HEAD, END, INTR, calls, at_words)


@dataclass(frozen=True)
class FramedModel:
    """A model that writes frames at random, and the tokens that end its sequences."""

    path: str
    ends: tuple[int, ...]


def build_framed_model(folder: Path) -> FramedModel:
    """Write the model, in which every token is spoken."""
    build_demo_model(MODEL, folder)
    ends = tuple(json.loads((folder / "config.json").read_text())["eos_token_id"])
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        token["special"] |= token["id"] in LOUDNESS
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    weights = load_file(folder / "model.safetensors")
    head = weights["lm_head.weight"]
    head[:FIRST_WORD_ID] /= MODEL.unspoken_gain
    for token, loudness in {**LOUDNESS, **dict.fromkeys(ends, END_LOUDNESS)}.items():
        head[token] *= loudness
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return FramedModel(str(folder), ends)
