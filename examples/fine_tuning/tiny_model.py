"""Write a small base model with random weights, to try `caesura train` without a download.

    python examples/fine_tuning/tiny_model.py out/tiny-base
    caesura train out/tiny-base --full --tools examples/fine_tuning/tools.json --out out/tiny-tuned

A Qwen2 of less than a million parameters, whose byte-level tokenizer is trained on the English of
Caesura's own tasks. It learns the form of calls in minutes on a CPU, not how to be right: for that
take a model that has read a lot, of a billion parameters or more.
"""

import argparse
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from caesura.cml.frames import json_text
from caesura.lab.train.wide.draw import CATEGORIES, GraphTasks
from caesura.lab.train.wide.sources import MadeUpTools

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|start|>' + message.role + '\n' + message.content + '<|end|>\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|start|>assistant\n' -}}{%- endif -%}"
)


def build_tokenizer(vocabulary: int, seed: int = 0) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of about this many tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|pad|>", "<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tasks = GraphTasks(MadeUpTools(), random.Random(seed))
    texts: list[str] = []
    for number in range(300):
        task = tasks.draw(CATEGORIES[number % len(CATEGORIES)])
        texts += [task.question, task.prose, *(call.sentence for call in task.calls)]
        texts += [f"{tool.name}: {tool.description}" for tool in task.tools]
        texts += [json_text(tool.parameters) for tool in task.tools]
        texts += [json_text({"name": c.tool, "arguments": c.arguments}) for c in task.calls]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        chat_template=CHAT_TEMPLATE,
    )


def write_model(
    folder: Path,
    *,
    vocabulary: int = 1024,
    hidden_size: int = 128,
    layers: int = 3,
    tied: bool = True,
    seed: int = 0,
) -> None:
    """Write the model and its tokenizer to a folder."""
    tokenizer = build_tokenizer(vocabulary, seed)
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 64,
        max_position_embeddings=2048,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Write the model."""
    parser = argparse.ArgumentParser(description="Write a small base model with random weights.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hidden-size", type=int, default=128, help="a multiple of 64")
    parser.add_argument("--layers", type=int, default=3)
    arguments = parser.parse_args()
    write_model(arguments.folder, hidden_size=arguments.hidden_size, layers=arguments.layers)
    print(f"Written to {arguments.folder}. Next: caesura train {arguments.folder} --full")


if __name__ == "__main__":
    main()
