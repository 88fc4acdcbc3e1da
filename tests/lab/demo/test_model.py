"""The demo model: built once, the same everywhere, and hard to satisfy by accident."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from caesura.lab.models.cache import DemoModelError
from caesura.lab.models.noise_model import DemoModelConfig, demo_model_path

PROMPT_TOKENS = 64
GENERATED_TOKENS = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_model_path(cache=tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def prompts() -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 1024, (4, PROMPT_TOKENS), generator=generator)


@pytest.fixture(scope="module")
def outputs(model: Any, prompts: torch.Tensor) -> list[list[int]]:
    return greedy(model, prompts)


def greedy(model: Any, prompts: torch.Tensor) -> list[list[int]]:
    everything = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=GENERATED_TOKENS,
        do_sample=False,
        eos_token_id=None,
    )
    return everything[:, prompts.shape[1] :].tolist()


def longest_repetition(tokens: list[int], period: int) -> int:
    longest = current = 0
    for earlier, later in zip(tokens, tokens[period:], strict=False):
        current = current + 1 if earlier == later else 0
        longest = max(longest, current)
    return longest


def test_the_shape_on_disk_is_the_one_asked_for(model: Any, folder: Path) -> None:
    config = DemoModelConfig()
    assert model.dtype is torch.float32
    assert model.config.num_hidden_layers == config.layers
    assert model.config.num_key_value_heads == config.kv_heads
    assert model.config.head_dim == config.head_size == 64
    assert model.config.max_position_embeddings == config.max_tokens
    assert sum(file.stat().st_size for file in folder.iterdir()) < 40e6


def test_every_weight_is_loaded_and_none_is_left_over(folder: Path) -> None:
    _, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]


def test_greedy_outputs_do_not_run_into_loops(outputs: list[list[int]]) -> None:
    for output in outputs:
        assert len(set(output)) > 0.6 * GENERATED_TOKENS
        assert all(longest_repetition(output, period) < 6 for period in range(1, 40))


def test_an_early_prompt_token_changes_the_continuation(
    model: Any, prompts: torch.Tensor, outputs: list[list[int]]
) -> None:
    changed = prompts.clone()
    changed[:, 2] = (changed[:, 2] + 17) % 1024
    for before, after in zip(outputs, greedy(model, changed), strict=True):
        assert before[:20] != after[:20]
        same = sum(one == other for one, other in zip(before, after, strict=True))
        assert same < 0.1 * GENERATED_TOKENS


def test_generated_tokens_survive_a_round_trip_through_text(
    tokenizer: Any, outputs: list[list[int]]
) -> None:
    for output in outputs:
        text = tokenizer.decode(output)
        assert text.isascii()
        assert tokenizer.encode(text, add_special_tokens=False) == output


def test_every_token_decodes_to_text(tokenizer: Any) -> None:
    assert len(tokenizer) == 1024
    assert all(tokenizer.decode([token_id]) for token_id in range(1024))


@pytest.mark.parametrize(
    "text", ["", "plain text", "tabs\tand\n\nlines", "Ünïcödé, 漢字 🙂", " lala"]
)
def test_any_text_survives_a_round_trip_through_tokens(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_have_ids_of_their_own(tokenizer: Any) -> None:
    tokens = [*tokenizer.all_special_tokens, "<tool_call>", "</tool_call>"]
    assert {"<|im_start|>", "<|im_end|>"} <= set(tokens)
    ids = [tokenizer.encode(token) for token in tokens]
    assert all(len(encoded) == 1 for encoded in ids)
    assert tokenizer.bos_token_id != tokenizer.eos_token_id != tokenizer.pad_token_id


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALL = {"name": "weather", "arguments": {"city": "Zürich", "days": [1, 2]}}
CALL_JSON = '{"name": "weather", "arguments": {"city": "Zürich", "days": [1, 2]}}'
CALL_TEXT = f"<tool_call>\n{CALL_JSON}\n</tool_call>"
CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " How is the weather? "},
    {
        "role": "assistant",
        "content": " lalo nima",
        "tool_calls": [{"type": "function", "function": CALL}] * 2,
    },
    {"role": "tool", "content": "sunny"},
    {"role": "tool", "content": '{"rain": 0}'},
    {"role": "assistant", "content": " nima lalo"},
    {"role": "user", "content": "Thanks"},
]


def render(tokenizer: Any, messages: list[dict[str, Any]], **options: Any) -> list[int]:
    rendered = tokenizer.apply_chat_template(messages, return_dict=False, **options)
    assert isinstance(rendered, list)
    return rendered


@pytest.mark.parametrize("tools", [None, TOOLS])
@pytest.mark.parametrize("with_system", [False, True])
def test_a_longer_conversation_begins_with_the_tokens_of_a_shorter_one(
    tokenizer: Any, tools: list[dict[str, Any]] | None, with_system: bool
) -> None:
    messages = CONVERSATION if with_system else CONVERSATION[1:]
    whole = render(tokenizer, messages, tools=tools)
    for end in range(1, len(messages) + 1):
        part = render(tokenizer, messages[:end], tools=tools)
        assert whole[: len(part)] == part


def test_an_assistant_turn_is_rendered_as_it_was_generated(tokenizer: Any) -> None:
    prompt = render(tokenizer, CONVERSATION[:2], tools=TOOLS, add_generation_prompt=True)
    generated = tokenizer.encode(f" lalo nima{CALL_TEXT}\n{CALL_TEXT}<|im_end|>")
    history = render(tokenizer, CONVERSATION[:3], tools=TOOLS)
    assert history[: len(prompt) + len(generated)] == prompt + generated


def test_arguments_may_be_given_as_the_json_text_of_the_api(tokenizer: Any) -> None:
    text = json.dumps(CALL["arguments"], ensure_ascii=False)
    messages = [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"type": "function", "function": {**CALL, "arguments": text}}],
        },
    ]
    assert CALL_TEXT in tokenizer.apply_chat_template(messages, tokenize=False)


def test_tools_are_listed_in_the_system_turn(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template(CONVERSATION[1:2], tools=TOOLS, tokenize=False)
    assert text.startswith("<|im_start|>system\n")
    assert json.dumps(TOOLS[0]) in text


def test_the_model_is_built_once(tmp_path: Path) -> None:
    lines: list[str] = []
    first = demo_model_path(lines.append, cache=tmp_path)
    second = demo_model_path(lines.append, cache=tmp_path)
    assert first == second
    assert len(lines) == 1
    assert list(tmp_path.iterdir()) == [first]


def test_two_builds_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = demo_model_path(cache=tmp_path)
    for file in folder.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()


def test_concurrent_callers_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: demo_model_path(cache=tmp_path), range(4)))
    assert len(folders) == 1
    assert list(tmp_path.iterdir()) == list(folders)


def test_a_damaged_cache_is_repaired(folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / folder.name
    shutil.copytree(folder, damaged)
    (damaged / "model.safetensors").unlink()
    assert demo_model_path(cache=tmp_path) == damaged
    assert (damaged / "model.safetensors").is_file()


def test_the_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert demo_model_path().parent == tmp_path / "caesura" / "models"


def test_other_weights_have_another_folder() -> None:
    assert DemoModelConfig().fingerprint() != DemoModelConfig(seed=1).fingerprint()


def test_an_unusable_cache_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "not-a-folder"
    file.touch()
    with pytest.raises(DemoModelError, match="XDG_CACHE_HOME"):
        demo_model_path(cache=file)


@pytest.mark.parametrize("vocab_size", [0, 266, 100_000])
def test_an_impossible_vocabulary_is_refused(tmp_path: Path, vocab_size: int) -> None:
    with pytest.raises(ValueError, match="vocab_size"):
        demo_model_path(config=DemoModelConfig(vocab_size=vocab_size), cache=tmp_path)
