"""Fine-tuning itself: the mask in TRL's loss, adapters, resumption, export and rollout."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from caesura import cli
from caesura.cml import Marker, Mode
from caesura.errors import ConfigurationError
from caesura.lab.train.tuning.base import Base, load_base, load_tuned
from caesura.lab.train.tuning.export import card, export
from caesura.lab.train.tuning.rollout import write_all
from caesura.lab.train.tuning.run import prepare_data
from caesura.lab.train.tuning.settings import TuningSettings, read_settings, write_record
from caesura.lab.train.tuning.tool_files import read_tools
from caesura.lab.train.tuning.trainer import build_trainer, merged
from caesura.lab.train.wide.draw import GraphTasks
from caesura.lab.train.wide.sessions import session_of
from caesura.lab.train.wide.sources import OwnTools
from caesura.lab.train.wide.tools import tool_of
from tuning_support import EXAMPLE, tiny_base

SETTINGS = TuningSettings(
    base="",
    lora=False,
    tools=read_tools(EXAMPLE / "tools.json"),
    examples=8,
    steps=4,
    batch_size=2,
    learning_rate=1e-2,
    max_tokens=1024,
    save_steps=2,
)


class StopAt(TrainerCallback):
    """Ends a run early, as the user would."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **others: object,
    ) -> None:
        control.should_training_stop = state.global_step >= self._step


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def trained(
    folder: Path, base: Base, settings: TuningSettings, *, stop: int = 0, resume: bool = False
) -> Any:
    callbacks = [StopAt(stop)] if stop else []
    data = prepare_data(base, settings)
    trainer = build_trainer(base, data, settings, folder, callbacks)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_trl_counts_what_the_model_writes_and_nothing_else(tiny: Base, tmp_path: Path) -> None:
    data = prepare_data(tiny, SETTINGS)
    trainer = build_trainer(tiny, data, SETTINGS, tmp_path)
    rows = {tuple(row["input_ids"]): row["completion_mask"] for row in data}
    counted = 0
    for batch in trainer.get_train_dataloader():
        for tokens, labels, real in zip(
            batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
        ):
            length = int(real.sum())
            mask = rows.pop(tuple(tokens[:length].tolist()))
            expected = [t if m else -100 for t, m in zip(tokens.tolist(), mask, strict=False)]
            assert labels.tolist() == expected + [-100] * (len(labels) - length)
            counted += sum(mask)
    assert not rows
    assert 0 < counted < sum(map(len, data["input_ids"]))
    interrupt = tiny.codec.symbols[Marker.INTR]
    assert any(interrupt in row["input_ids"] for row in data)


def test_a_run_that_was_interrupted_and_resumed_gives_the_same_weights(
    tied_model: Path, tmp_path: Path
) -> None:
    whole = trained(tmp_path / "whole", tiny_base(tied_model), SETTINGS)
    trained(tmp_path / "parts", tiny_base(tied_model), SETTINGS, stop=2)
    resumed = trained(tmp_path / "parts", tiny_base(tied_model), SETTINGS, resume=True)
    assert resumed.state.global_step == 4
    before = weights(tiny_base(tied_model).model)
    expected, found = weights(whole.model), weights(resumed.model)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)
    assert any(not torch.equal(before[name], value) for name, value in expected.items())
    losses = [entry["loss"] for entry in whole.state.log_history if "loss" in entry]
    assert losses[0] > 5


@pytest.mark.parametrize("kind", ["tied_model", "untied_model"])
def test_adapters_train_the_markers_and_leave_other_tokens(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    base = tiny_base(request.getfixturevalue(kind))
    before = weights(base.model)
    settings = SETTINGS.model_copy(update={"lora": True, "lora_rank": 4, "steps": 2})
    trainer = trained(tmp_path / "run", base, settings)
    probe = torch.tensor([base.codec.prompt_of("Hi.", (), Mode.ASYNC)])
    with torch.no_grad():
        with_adapters = trainer.model.eval()(probe).logits
    export(merged(trainer), base, tmp_path / "model")
    model, codec = load_tuned(tmp_path / "model")
    with torch.no_grad():
        torch.testing.assert_close(model(probe).logits, with_adapters, rtol=1e-4, atol=1e-4)
    markers = list(base.marker_ids)
    others = [i for i in range(len(base.tokenizer)) if i not in markers]
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        value = weights(model)[name]
        torch.testing.assert_close(value[others], before[name][others], rtol=0, atol=0)
        assert not torch.equal(value[markers], before[name][markers])
    changed = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(weights(model)[changed], before[changed])
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == (kind == "tied_model")
    assert codec.eos == base.codec.eos
    further = load_base(str(tmp_path / "model"))
    assert further.marker_ids == base.marker_ids
    assert further.tokenizer.chat_template == base.tokenizer.chat_template
    assert torch.equal(weights(further.model)["lm_head.weight"], weights(model)["lm_head.weight"])
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert files >= {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "chat_template.jinja",
    }


def test_the_rollout_decodes_as_the_model_would_alone(tiny: Base) -> None:
    """Greedy choices of whole passes without a cache, over the same contexts."""

    source = random.Random(4)
    model = tiny.model.eval()
    drawn = GraphTasks(OwnTools(map(tool_of, SETTINGS.tools)), source)
    simulations = [
        session_of(drawn.draw(category), mode, tiny.codec, source).simulation
        for category, mode in (
            ("single", Mode.SYNC),
            ("steering", Mode.ASYNC),
            ("follow_up", Mode.SYNC_PARALLEL),
        )
    ]
    starts = [len(simulation.tokens) for simulation in simulations]
    write_all(model, tiny.codec, simulations, 24)
    forbidden = tiny.codec.symbols[Marker.INTR]
    for simulation, start in zip(simulations, starts, strict=True):
        with torch.no_grad():
            scores = model(torch.tensor([simulation.tokens])).logits[0]
        scores[:, forbidden] = -torch.inf
        choices = scores.argmax(-1).tolist()
        own = [i for i in range(start, len(simulation.tokens)) if simulation.written[i]]
        assert len(own) > 10
        assert [simulation.tokens[i] for i in own] == [choices[i - 1] for i in own]


def test_the_command_trains_exports_and_evaluates(tied_model: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    tools = tmp_path / "caesura.toml"
    (tmp_path / "shelf.py").write_text(
        "def stock(item: str) -> int:\n    '''How many there are.'''\n    return 1\n"
    )
    tools.write_text(
        '[tools.stock]\ntype = "python"\ncallable = "shelf:stock"\nexpected_seconds = 0.2\n'
        '[tools.price]\ntype = "http"\nurl = "http://localhost/{item}"\n'
        'description = "The price."\n'
        'parameters = {type = "object", properties = {item = {type = "string"}}, '
        'required = ["item"]}\n'
        "[sessions]\n"
    )
    command = ["train", str(tied_model), "--full", "--out", str(out), "--tools", str(tools)]
    command += ["--examples", "4", "--steps", "2", "--batch-size", "2", "--max-tokens", "1024"]
    command += ["--cases", "0", "--threads", "1"]
    assert cli.run(command) == 0
    settings = read_settings(out)
    assert [tool["name"] for tool in settings.tools] == ["stock", "price"]
    assert settings.tools[0]["expected_seconds"] == 0.2
    assert "stock, price" in (out / "README.md").read_text()
    assert AutoModelForCausalLM.from_pretrained(out).config.model_type == "qwen2"
    assert "function_calling" in AutoTokenizer.from_pretrained(out).chat_template

    with pytest.raises(ConfigurationError, match="go on with --resume"):
        cli.run(command)
    with pytest.raises(ConfigurationError, match="seed differ from the run"):
        cli.run([*command, "--resume", "--seed", "1"])

    evaluation = ["train", "evaluate", str(out), "--cases", "1", "--threads", "1"]
    evaluation += ["--modes", "sync,async", "--categories", "single", "--seen"]
    assert cli.run([*evaluation, "--json", str(figures)]) == 0
    scores = json.loads(figures.read_text())["scores"]
    assert {(score["mode"], score["held_out"]) for score in scores} == {
        (mode, side) for mode in ("sync", "async") for side in (False, True)
    }
    assert all(0 <= score["success"] <= 1 for score in scores)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no model of caesura train"):
        cli.run(["train", "evaluate", str(tmp_path)])
    write_record(tmp_path, SETTINGS)
    assert read_settings(tmp_path) == SETTINGS
    (tmp_path / "cml.json").write_text('{"settings": {"tools": [], "modes": ["fast"]}}')
    with pytest.raises(ConfigurationError, match="train again"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ("{", "is not JSON"),
        ("3", "must be a list"),
        ('[{"name": "a"}, {"name": "a"}]', "the same name"),
        (
            '[{"name": "a", "parameters": {"properties": {"b": {"type": "string", '
            '"pattern": "x"}}, "required": ["b"]}}]',
            "argument b of a: .* give it examples",
        ),
    ],
)
def test_tools_that_do_not_do_are_refused(content: str, advice: str, tmp_path: Path) -> None:
    file = tmp_path / "tools.json"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=advice):
        read_tools(file)


def test_examples_that_are_too_long_are_refused_with_advice(tiny: Base) -> None:
    with pytest.raises(ConfigurationError, match="raise --max-tokens"):
        prepare_data(tiny, SETTINGS.model_copy(update={"max_tokens": 100}))


def test_a_card_without_an_evaluation_says_so() -> None:
    text = card(SETTINGS.model_copy(update={"base": "some/model", "tools": ()}), ())
    assert "made up for each example" in text
    assert "Not evaluated yet" in text
