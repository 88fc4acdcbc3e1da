"""A base model is made ready: markers, chat template, and what is refused."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from caesura.cml import Marker, Mode, escape
from caesura.errors import ConfigurationError
from caesura.lab.train.tuning.base import Base, load_base, load_tuned
from caesura.lab.train.tuning.markers import add_markers
from caesura.lab.train.tuning.template import extended, takes_system_message
from caesura.lab.train.wide.tools import tool_of
from support.models.tiny import tiny_base

TOOL = tool_of({"name": "price", "description": "A [END] price.", "expected_seconds": 0.05})
NO_SYSTEM = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}{{ raise_exception('no system') }}{%- endif -%}"
    "{{- '<|start|>' + message.role + ' ' + message.content + '<|end|>' -}}{%- endfor -%}"
)


def rendered(tokenizer: Any, *messages: tuple[str, object], **variables: object) -> str:
    text: str = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in messages],
        tokenize=False,
        **variables,
    )
    return text


def test_each_marker_is_one_token_and_begins_as_a_mean(tied_model: Path, tiny: Base) -> None:
    plain = AutoTokenizer.from_pretrained(tied_model)
    before = AutoModelForCausalLM.from_pretrained(tied_model).get_input_embeddings().weight
    after = tiny.model.get_input_embeddings().weight
    for marker, index in zip(Marker, tiny.marker_ids, strict=True):
        assert tiny.tokenizer.encode(marker.value) == [index]
        spelled = plain.encode(marker.value)
        assert len(spelled) > 1
        torch.testing.assert_close(after[index], before[spelled].mean(0))
    torch.testing.assert_close(after[: len(before)], before)


def test_tied_heads_stay_tied_and_untied_ones_begin_as_a_mean_too(
    tiny: Base, untied_model: Path
) -> None:
    model = tiny.model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    untied = tiny_base(untied_model)
    head = untied.model.get_output_embeddings().weight
    before = AutoModelForCausalLM.from_pretrained(untied_model).get_output_embeddings().weight
    spelled = AutoTokenizer.from_pretrained(untied_model).encode("[TRAP]")
    torch.testing.assert_close(head[untied.marker_ids[2]], before[spelled].mean(0))
    assert len(head) == len(untied.tokenizer)


def test_what_the_model_is_told_ends_its_turn(tiny: Base) -> None:
    end = tiny.tokenizer.convert_tokens_to_ids("<|end|>")
    assert tiny.codec.eos == end
    assert tiny.model.generation_config.eos_token_id == [end]


def test_without_the_variable_the_template_is_what_it_was(tied_model: Path, tiny: Base) -> None:
    plain = AutoTokenizer.from_pretrained(tied_model)
    messages = ("system", "Be brief."), ("user", "Hi.")
    assert rendered(tiny.tokenizer, *messages) == rendered(plain, *messages)


@pytest.mark.parametrize("mode", Mode)
def test_the_template_names_mode_and_tools_before_the_system_message(
    tiny: Base, mode: Mode
) -> None:
    tools = [{"type": "function", "function": {"name": "price", "description": "A [END] price."}}]
    text = rendered(
        tiny.tokenizer,
        ("system", "Be brief."),
        ("user", "Hi."),
        tools=tools,
        function_calling=mode.value,
    )
    assert text.count("<|start|>system") == 1
    assert re.search(rf"Mode {mode.value}: ", text)
    assert "- price: A [~END] price.\n  Parameters: {}" in text
    assert "\n\nBe brief.<|end|>" in text
    others = set(Mode) - {mode}
    assert not any(f"Mode {other.value}: " in text for other in others)
    without = rendered(tiny.tokenizer, ("user", "Hi."), function_calling=mode.value)
    assert "Tools:" not in without


def test_content_in_parts_is_read(tiny: Base) -> None:
    parts = [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]
    text = rendered(tiny.tokenizer, ("system", parts), ("user", "Hi."), function_calling="async")
    assert "\n\nBe\nbrief.<|end|>" in text


def test_a_mode_that_there_is_not_is_refused(tiny: Base) -> None:
    with pytest.raises(Exception, match="must be sync, sync_parallel or async"):
        rendered(tiny.tokenizer, ("user", "Hi."), function_calling="parallel")


def test_where_there_is_no_system_message_the_user_is_told(tied_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tied_model)
    tokenizer.chat_template = NO_SYSTEM
    assert not takes_system_message(tokenizer)
    tokenizer.chat_template = extended(NO_SYSTEM, takes_system=False)
    text = rendered(tokenizer, ("user", "Hi."), function_calling="sync")
    assert text.startswith("<|start|>user You call tools")
    assert text.endswith("\n\nHi.<|end|>")


def test_a_template_is_extended_once(tiny: Base) -> None:
    template = tiny.tokenizer.chat_template
    assert extended(template, takes_system=True) == template


def test_the_prompt_is_short(tiny: Base) -> None:
    prompt = tiny.codec.decode(tiny.codec.prompt_of("Hi.", [TOOL], Mode.ASYNC))
    assert "A [~END] price. Takes about 0.05 s." in prompt
    assert len(prompt) < 1000


def test_markers_in_questions_are_only_quoted(tiny: Base) -> None:
    question = "What does [END] mean?"
    tokens = tiny.codec.prompt_of(question, (), Mode.SYNC)
    text = tiny.codec.decode(tokens)
    assert escape(question) in text
    assert question not in text


def test_text_comes_character_by_character(tiny: Base) -> None:
    text = "Grüße, 東京 🙂 done"
    decode = tiny.codec.decoder()
    pieces = [decode([token], final=False) for token in tiny.codec.tokenize(text)]
    assert "".join(pieces) + decode([], final=True) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_models_that_cannot_be_trained_are_refused_with_advice(
    tied_model: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tied_model)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "plain")
    with pytest.raises(ConfigurationError, match="has no chat template: take the instruction"):
        load_base(str(tmp_path / "plain"))
    template = tmp_path / "open.jinja"
    template.write_text("{%- for m in messages -%}{{ m.role + ': ' + m.content }}{%- endfor -%}")
    with pytest.raises(ConfigurationError, match="does not end an answer with a special token"):
        load_base(str(tied_model), template)
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        load_base(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match=r"cannot be read: No such file"):
        load_base(str(tied_model), tmp_path / "missing.jinja")
    with pytest.raises(ConfigurationError, match="was not trained for CML"):
        load_tuned(tied_model)


def test_a_tokenizer_that_splits_markers_is_refused(tied_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tied_model)
    tokenizer.split_special_tokens = True
    with pytest.raises(ConfigurationError, match=r"splits \[CALL\]"):
        add_markers(tokenizer)
