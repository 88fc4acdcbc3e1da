"""`caesura train`: progress in the terminal, and figures in files."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.table import Table

from caesura.cml import Mode
from caesura.console import plain_console
from caesura.errors import ConfigurationError
from caesura.lab.progress import progress_bars
from caesura.lab.results_file import Origin, write_results
from caesura.lab.train.demo_suite import DemoSuite
from caesura.lab.train.evaluate import Evaluation, Score, Suite
from caesura.lab.train.settings import EvaluationSettings, TrainingSettings
from caesura.lab.train.trainer import Trainer
from caesura.lab.train.trainer import TrainingProgress as TrainingProgress
from caesura.lab.train.tuning.settings import RECORD


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
    with progress_bars(detail="loss {task.fields[loss]}") as progress:
        bar = progress.add_task("training", total=settings.steps, completed=trainer.step, loss="")

        def show(state: TrainingProgress) -> None:
            detail = f"{state.loss:.4f}, {state.tokens_per_second:,.0f} tokens/s"
            progress.update(bar, completed=state.step, loss=detail)

        trainer.run(show)
    plain_console().print(f"The model is in {folder}. Next: caesura train evaluate {folder}")


def run_evaluation(
    settings: EvaluationSettings,
    threads: int,
    json_path: Path | None,
    command: str,
) -> None:
    """Play sessions with an exported model; show and write its success.

    Args:
        settings: what is played.
        threads: compute threads.
        json_path: where all figures go, too.
        command: what the user typed, for the record.

    Raises:
        ConfigurationError: it is no model that was trained for CML.
    """
    torch.set_num_threads(threads)
    suite = suite_of(settings.model)
    if unknown := set(settings.categories) - set(suite.categories):
        raise ConfigurationError(
            f"there is no category {', '.join(sorted(unknown))}: {', '.join(suite.categories)}"
        )
    scores = play_all(suite, settings)
    plain_console().print(table_of(scores))
    if json_path is not None:
        write_scores(json_path, scores, settings, command)


def suite_of(folder: Path) -> Suite:
    """The model in a folder, with the tasks that it was trained for."""
    if (folder / RECORD).exists():
        from caesura.lab.train.tuning.suite import tuned_suite

        return tuned_suite(folder)
    try:
        return DemoSuite(folder)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{folder} is no model of caesura train: it has no {RECORD}, and is not the demo's "
            f"({error})"
        ) from None


def play_all(suite: Suite, settings: EvaluationSettings) -> list[Score]:
    """Play these categories in these modes, and show how far it is."""
    categories = settings.categories or tuple(suite.categories)
    sides = (False, True) if settings.seen else (True,)
    with progress_bars(detail="{task.fields[cell]}") as progress:
        total = len(categories) * len(settings.modes) * len(sides) * settings.cases
        bar = progress.add_task("sessions", total=total, cell="")

        def advance(score: Score) -> None:
            progress.update(bar, advance=score.cases, cell=f"{score.category}, {score.mode}")

        evaluation = Evaluation(suite, settings.cases, settings.seed)
        return evaluation.run(categories, settings.modes, sides, on_score=advance)


def write_scores(
    file: Path,
    scores: Sequence[Score],
    settings: EvaluationSettings,
    command: str,
) -> None:
    """Write success per category and mode, with the command and the machine."""
    figures = {"scores": [score.as_json() for score in scores]}
    write_results(file, Origin(command), figures, settings)


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
