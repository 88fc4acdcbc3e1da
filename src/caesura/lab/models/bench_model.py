"""The bench model: a real vocabulary, and as small as attention gets.

Its tokens are forced along known answers (`function_calling.vllm_planned_calls`), so that the
system is measured: a decode step takes what the engine around the model takes, and little more.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path

from safetensors.numpy import save_file

from caesura.lab.models.bench_tokenizer import BOS, EOS, TURN_END, save_tokenizer, vocabulary
from caesura.lab.models.cache import cached_model
from caesura.lab.models.noise_model import DemoModelConfig, architecture, weights

_FORMAT = 2  # raise it when the same vocabulary and shape are to give other files
_SHAPE = DemoModelConfig(
    hidden_size=128, layers=2, heads=2, kv_heads=1, ffn_size=384, max_tokens=8192
)


def bench_model_path(progress: Callable[[str], None] | None = None) -> Path:
    """Return the folder of the bench model, and build it in the cache if it is not there yet.

    Raises:
        ConfigurationError: the tokenizer that it is made of is missing.
        DemoModelError: the cache folder cannot be written.
    """
    tokens = vocabulary()
    config = replace(_SHAPE, vocab_size=len(tokens))
    content = json.dumps([_FORMAT, asdict(config), tokens, _chat_template()])
    name = f"bench-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def build(folder: Path) -> None:
        begin, end = tokens.index(BOS), tokens.index(EOS)
        special = {"bos_token_id": begin, "eos_token_id": end}
        ends = {"bos_token_id": begin, "eos_token_id": [end, tokens.index(TURN_END)]}
        for file, values in (
            ("config.json", {**architecture(config), **special}),
            ("generation_config.json", ends),
        ):
            (folder / file).write_text(json.dumps(values, indent=2) + "\n")
        save_tokenizer(folder, config.max_tokens)
        (folder / "chat_template.jinja").write_text(_chat_template(), encoding="utf-8")
        save_file(dict(weights(config)), folder / "model.safetensors", metadata={"format": "pt"})

    return cached_model(name, build, progress)


def _chat_template() -> str:
    return files(__package__).joinpath("bench_chat_template.jinja").read_text(encoding="utf-8")
