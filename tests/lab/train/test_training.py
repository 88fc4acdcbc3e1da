"""The demo model in torch: decoding, export, training. Small sizes, one thread."""

import json
import random
from pathlib import Path

import pytest
import torch

from caesura.cml import Mode
from caesura.errors import ConfigurationError
from caesura.lab.train.batches import batches
from caesura.lab.train.decoding import Cache, extend
from caesura.lab.train.demo_model import DemoModel, ModelShape, export, load
from caesura.lab.train.demo_tasks import TaskSource
from caesura.lab.train.demo_tokenizer import DemoCodec
from caesura.lab.train.initial_weights import set_initial_weights
from caesura.lab.train.render import sample_of
from caesura.lab.train.settings import TrainingSettings
from caesura.lab.train.trainer import Trainer, TrainingProgress

CODEC = DemoCodec()
SETTINGS = TrainingSettings(steps=8, tokens_per_step=512, warmup_steps=2, easy_share=1.0)


@pytest.fixture(scope="module")
def model() -> DemoModel:
    model = DemoModel(ModelShape(CODEC.tokenizer.get_vocab_size()), torch.float32)
    set_initial_weights(model, seed=3)
    return model


def test_initial_weights_copy_a_repeated_sequence(model: DemoModel) -> None:
    source = random.Random(4)
    tokens = source.sample(range(30, 230), 40)
    sequence = torch.tensor([[*tokens, *tokens]])
    with torch.no_grad():
        scores = model.scores(model.hidden(sequence))[0]
    predicted = scores[len(tokens) + 2 : -1].argmax(-1).tolist()
    hits = sum(a == b for a, b in zip(predicted, tokens[3:], strict=True))
    assert hits / len(predicted) > 0.8


def test_initial_weights_are_made_for_one_shape() -> None:
    with pytest.raises(ValueError, match="256"):
        set_initial_weights(DemoModel(ModelShape(64, hidden_size=128)), seed=0)


def test_decoding_with_a_cache_gives_the_scores_of_whole_sequences(model: DemoModel) -> None:
    tokens = torch.randint(0, 700, (2, 12), generator=torch.Generator().manual_seed(5))
    cache = Cache(model, 2, 16)
    with torch.no_grad():
        extend(model, cache, tokens[:, :4], torch.arange(4).expand(2, -1))
        for position in range(4, 12):
            last = extend(model, cache, tokens[:, position : position + 1], _at(position))
        whole = model.scores(model.hidden(tokens))[:, -1]
    torch.testing.assert_close(last, whole, rtol=1e-4, atol=1e-4)


def _at(position: int) -> torch.Tensor:
    return torch.full((2, 1), position)


def test_an_exported_model_is_read_back_and_by_transformers(
    model: DemoModel, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    export(model, tmp_path, CODEC.eos, CODEC.pad)
    tokens = torch.tensor([CODEC.prompt("What is the price of K4821?", Mode.ASYNC)])
    ours = load(tmp_path, torch.float32)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        expected = theirs(tokens).logits
        torch.testing.assert_close(ours.scores(ours.hidden(tokens)), expected, rtol=1e-4, atol=1e-4)
    assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] == CODEC.eos


def test_batches_are_of_similar_lengths_and_cover_what_is_written() -> None:
    source = random.Random(6)
    tasks = TaskSource(source)
    drawn = batches(
        lambda: sample_of(tasks.draw("chain_single"), Mode.ASYNC, CODEC, source),
        tokens_per_batch=1024,
        pad=CODEC.pad,
        source=source,
        pool=64,
    )
    for _ in range(6):
        batch = next(drawn)
        assert batch.tokens.numel() <= 1024
        padding = (batch.tokens == CODEC.pad).float().mean()
        assert padding < 0.2
        assert not (batch.covered & (batch.tokens == CODEC.pad)).any()
        assert batch.covered.any(dim=1).all()


def test_training_lowers_the_loss_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    reports: list[TrainingProgress] = []
    trainer = Trainer(SETTINGS, tmp_path)
    trainer.run(reports.append, report_steps=4)
    assert [report.step for report in reports] == [4, 8]
    assert reports[1].loss < reports[0].loss

    again = Trainer(SETTINGS, tmp_path)
    again.resume()
    assert again.step == 8
    for ours, theirs in zip(again.model.parameters(), trainer.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert (tmp_path / "tokenizer.json").exists()


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no checkpoint"):
        Trainer(SETTINGS, tmp_path).resume()
