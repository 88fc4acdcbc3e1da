"""Training the demo model from scratch: schedule, optimisers, checkpoints."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from caesura.cml import Mode
from caesura.errors import ConfigurationError
from caesura.lab.train.batches import batches
from caesura.lab.train.demo_model import DemoModel, ModelShape, export
from caesura.lab.train.demo_tasks import TaskSource
from caesura.lab.train.demo_tokenizer import DemoCodec, save_tokenizer
from caesura.lab.train.initial_weights import set_initial_weights
from caesura.lab.train.render import Sample, sample_of
from caesura.lab.train.settings import TrainingSettings

_EASY = ("single", "chain", "same_tool")
_WEIGHTS = {
    "single": 0.4,
    "parallel": 1.5,
    "same_tool": 1.5,
    "same_value": 0.8,
    "mixed": 2.0,
    "chain": 0.5,
    "chain_single": 1.0,
    "error": 3.0,
}
"""How often each category is drawn after the easy start: the hard ones more often."""


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where training is.

    Attributes:
        step: steps done.
        steps: steps in all.
        loss: mean since the last report.
        accuracy: share of tokens predicted, since the last report.
        tokens_per_second: padded tokens.
    """

    step: int
    steps: int
    loss: float
    accuracy: float
    tokens_per_second: float


class Trainer:
    """A training run that can be resumed.

    Args:
        settings: of the run.
        folder: for the checkpoint and the exported model.
    """

    def __init__(self, settings: TrainingSettings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._codec = DemoCodec()
        self._source = random.Random(settings.seed)
        self._tasks = TaskSource(self._source, repeats=0.1)
        self.model = DemoModel(ModelShape(self._codec.tokenizer.get_vocab_size()))
        set_initial_weights(self.model, settings.seed)
        matrices = [p for p in self.model.blocks.parameters() if p.ndim == 2]
        known = {id(p) for p in matrices}
        others = [p for p in self.model.parameters() if id(p) not in known]
        self._muon = torch.optim.Muon(matrices, lr=settings.muon_rate, weight_decay=0.01)
        self._adam = torch.optim.AdamW(
            others, lr=settings.adam_rate, betas=(0.9, 0.98), weight_decay=0.0
        )
        self.step = 0
        self.seconds = 0.0

    @property
    def share(self) -> float:
        """How much of the run is done, 0 to 1."""
        settings = self._settings
        return max(self.step / settings.steps, self.seconds / settings.seconds)

    @property
    def checkpoint_path(self) -> Path:
        """Where the state of the run is kept."""
        return self._folder / "checkpoint.pt"

    def run(self, report: Callable[[TrainingProgress], None], report_steps: int = 25) -> None:
        """Train up to the last step; a checkpoint and an export every few minutes."""
        pad = self._codec.pad
        source = batches(self._draw, self._settings.tokens_per_step, pad, self._source, pool=1024)
        last_saved = last_report = last_step = time.monotonic()
        tokens, losses, hits = 0, [], []
        while self.share < 1:
            batch = next(source)
            self._set_rates()
            loss, hit = self.model.loss(batch.tokens, batch.covered)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for optimizer in (self._muon, self._adam):
                optimizer.step()
                optimizer.zero_grad()
            self.step += 1
            tokens += batch.tokens.numel()
            losses.append(loss.item())
            hits.append(hit.item())
            now = time.monotonic()
            self.seconds += now - last_step
            last_step = now
            if self.step % report_steps == 0 or self.share >= 1:
                mean = sum(losses) / len(losses)
                rate = tokens / (now - last_report)
                accuracy = sum(hits) / len(hits)
                report(TrainingProgress(self.step, self._settings.steps, mean, accuracy, rate))
                last_report, tokens, losses, hits = now, 0, [], []
            if now - last_saved > self._settings.checkpoint_seconds:
                self.save()
                last_saved = now
        self.save()

    def save(self) -> None:
        """Write the checkpoint, and the model as it is now."""
        self._folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "muon": self._muon.state_dict(),
            "adam": self._adam.state_dict(),
            "source": self._source.getstate(),
        }
        scratch = self.checkpoint_path.with_suffix(".new")
        torch.save(state, scratch)
        scratch.replace(self.checkpoint_path)
        codec = self._codec
        export(self.model, self._folder, codec.eos, codec.pad)
        save_tokenizer(self._folder, self.model.shape.max_tokens)

    def resume(self) -> None:
        """Go on from the checkpoint in the folder.

        Raises:
            ConfigurationError: there is none.
        """
        if not self.checkpoint_path.exists():
            raise ConfigurationError(
                f"{self._folder} has no checkpoint: begin without --resume, or name another --out"
            )
        state = torch.load(self.checkpoint_path, weights_only=True)
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.model.load_state_dict(state["model"])
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
        self._source.setstate(state["source"])

    def _draw(self) -> Sample:
        if self.share < self._settings.easy_share:
            category = self._source.choice(_EASY)
        else:
            category = self._source.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        task = self._tasks.draw(category)
        mode = self._source.choice((Mode.SYNC, Mode.SYNC_PARALLEL, Mode.ASYNC, Mode.ASYNC))
        return sample_of(task, mode, self._codec, self._source)

    def _set_rates(self) -> None:
        settings = self._settings
        rise = min(1.0, (self.step + 1) / settings.warmup_steps)
        left = (1 - self.share) / settings.decay_share
        factor = rise * min(1.0, left)
        for optimizer, rate in ((self._muon, settings.muon_rate), (self._adam, settings.adam_rate)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
