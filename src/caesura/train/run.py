"""`caesura train`: progress in the terminal, and figures in files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from caesura.cml import Mode
from caesura.errors import ConfigurationError
from caesura.train.demo_tasks import CATEGORIES
from caesura.train.evaluate import Evaluation, Score
from caesura.train.trainer import Progress as TrainingProgress
from caesura.train.trainer import Trainer, TrainingSettings


def run_training(settings: TrainingSettings, folder: Path, resume: bool, threads: int) -> None:
    """Train the demo model from scratch.

    Raises:
        ConfigurationError: there is nothing to resume, or something that would be overwritten.
    """
    torch.set_num_threads(threads)
    trainer = Trainer(settings, folder)
    if resume:
        trainer.resume()
    elif trainer.checkpoint_path.exists():
        raise ConfigurationError(
            f"{folder} has a checkpoint: go on with --resume, or choose another --out"
        )
    with _bar("loss {task.fields[loss]}") as progress:
        bar = progress.add_task("training", total=settings.steps, completed=trainer.step, loss="")

        def show(state: TrainingProgress) -> None:
            detail = f"{state.loss:.4f}, {state.tokens_per_second:,.0f} tokens/s"
            progress.update(bar, completed=state.step, loss=detail)

        trainer.run(show)
    Console().print(f"The model is in {folder}. Next: caesura train --evaluate {folder}")


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """What is played.

    Attributes:
        model: folder of an exported model.
        cases: sessions per category and mode.
        seed: of tasks and times.
        seen: also play tasks as in training, as many again.
        threads: compute threads.
    """

    model: Path
    cases: int
    seed: int
    seen: bool
    threads: int


def run_evaluation(
    settings: EvaluationSettings,
    json_path: Path | None,
    command: str,
    machine: Mapping[str, object],
) -> None:
    """Let a model play sessions; show and write its success.

    Args:
        settings: what is played.
        json_path: where figures are written.
        command: that asked for it, for the file.
        machine: on which it runs, for the file.
    """
    torch.set_num_threads(settings.threads)
    evaluation = Evaluation(settings.model, settings.cases, settings.seed)
    sides = (False, True) if settings.seen else (True,)
    with _bar("{task.fields[category]}") as progress:
        total = len(CATEGORIES) * len(Mode) * len(sides) * settings.cases
        bar = progress.add_task("sessions", total=total, category="")

        def advance(score: Score) -> None:
            progress.update(bar, advance=score.cases, category=score.category)

        scores = evaluation.run(sides=sides, on_score=advance)
    Console().print(table_of(scores))
    if json_path is not None:
        content = {
            "command": command,
            "machine": machine,
            "settings": {"cases": settings.cases, "seed": settings.seed},
            "scores": [score.as_json() for score in scores],
        }
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(content, indent=1) + "\n")


def table_of(scores: Sequence[Score]) -> Table:
    """Success in percent by category and mode."""
    sides = dict.fromkeys(score.held_out for score in scores)
    names = " / ".join("held out" if held_out else "as in training" for held_out in sides)
    table = Table(title=f"Success in %, {names}")
    table.add_column("category")
    for mode in Mode:
        table.add_column(mode.value, justify="right")
    for category in dict.fromkeys(score.category for score in scores):
        cells = []
        for mode in Mode:
            found = [s for s in scores if (s.category, s.mode) == (category, mode)]
            cells.append(" / ".join(f"{100 * score.success:.1f}" for score in found))
        table.add_row(category, *cells)
    return table


def _bar(detail: str) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn(detail, style="dim"),
    )
