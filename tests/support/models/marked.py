"""The small model with the markers of CML as special tokens, as a model trained for it has them."""

import json
from pathlib import Path

from caesura.cml import Marker
from caesura.lab.models.noise_model import build_demo_model
from caesura.lab.models.noise_tokenizer import FIRST_WORD_ID
from support.models.small import MODEL

MODE_LINE = "{{- '<|im_start|>mode\n' + (function_calling or 'none') + '<|im_end|>\n' -}}"
TOKENS = {marker: FIRST_WORD_ID + index for index, marker in enumerate(Marker)}


def build_marked_model(folder: Path) -> None:
    """Write the model: its first words give their tokens to the markers."""
    build_demo_model(MODEL, folder)
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    words = {token_id: word for word, token_id in vocabulary.items()}
    for marker, token_id in TOKENS.items():
        vocabulary[marker.value] = vocabulary.pop(words[token_id])
        (added,) = [token for token in tokenizer["added_tokens"] if token["id"] == token_id]
        added |= {"content": marker.value, "special": True}
    file.write_text(json.dumps(tokenizer))
    template = folder / "chat_template.jinja"
    template.write_text(MODE_LINE + template.read_text())
