"""`caesura train BASE`: data, training, export and evaluation, one after the other."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset, Features, List, Value, concatenate_datasets, disable_progress_bars

from caesura.console import plain_console
from caesura.errors import ConfigurationError
from caesura.lab.progress import progress_bars
from caesura.lab.train.evaluate import Score
from caesura.lab.train.run import play_all, table_of, write_scores
from caesura.lab.train.settings import EvaluationSettings
from caesura.lab.train.tuning.base import Base, load_base
from caesura.lab.train.tuning.data import Examples
from caesura.lab.train.tuning.export import export, write_card
from caesura.lab.train.tuning.progress import ProgressDisplay, Rollouts
from caesura.lab.train.tuning.settings import (
    RECORD,
    TuningSettings,
    changed,
    read_settings,
    write_record,
)
from caesura.lab.train.tuning.suite import TunedSuite, tool_source
from caesura.lab.train.tuning.trainer import build_trainer, merged
from caesura.lab.train.wide.draw import possible_categories

CHECKPOINTS = "checkpoints"
_ROWS_AT_ONCE = 500
_FEATURES = Features({"input_ids": List(Value("int32")), "completion_mask": List(Value("int8"))})


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how a run is done.

    Attributes:
        folder: for the model; its checkpoints are inside.
        resume: go on from the latest checkpoint.
        threads: compute threads.
        command: what the user typed, for the record.
    """

    folder: Path
    resume: bool
    threads: int
    command: str


def run_tuning(settings: TuningSettings, place: Place) -> None:
    """Fine-tune a model.

    Raises:
        ConfigurationError: the base, the tools or the folder do not do; it says what to do.
    """
    console = plain_console()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    disable_progress_bars()
    torch.set_num_threads(place.threads)
    _check_folder(settings, place)
    base = load_base(settings.base, settings.chat_template, whole=not settings.lora)
    write_record(place.folder, settings, command=place.command, versions=_versions())
    data = prepare_data(base, settings)
    history: list[tuple[int, list[Score]]] = []

    def report(step: int, scores: list[Score]) -> None:
        history.append((step, scores))
        success = sum(s.successes for s in scores) / sum(s.cases for s in scores)
        console.print(f"step {step}: {100 * success:.1f} % of held-out sessions are right")

    with progress_bars(detail="{task.fields[detail]}") as progress:
        callbacks = [ProgressDisplay(progress), Rollouts(settings, base.codec, report)]
        checkpoints = place.folder / CHECKPOINTS
        trainer = build_trainer(base, data, settings, checkpoints, callbacks)
        try:
            trainer.train(resume_from_checkpoint=place.resume and _has_checkpoint(checkpoints))
        except KeyboardInterrupt:
            raise ConfigurationError(
                f"stopped; the latest checkpoint is in {checkpoints}: go on with --resume"
            ) from None
    model = merged(trainer)
    export(model, base, place.folder)
    write_record(
        place.folder,
        settings,
        command=place.command,
        versions=_versions(),
        steps=trainer.state.global_step,
        log=[entry for entry in trainer.state.log_history if "loss" in entry],
        rollouts=[
            {"step": step, "scores": [_short(score) for score in scores]}
            for step, scores in history
        ],
    )
    write_card(place.folder, settings, ())
    scores = _evaluate(model, base, settings, place)
    write_card(place.folder, settings, scores)
    if scores:
        console.print(table_of(scores))
    console.print(
        f"The model is in {place.folder}. Next: caesura train evaluate {place.folder}, "
        f"caesura serve {place.folder}"
    )


def prepare_data(base: Base, settings: TuningSettings) -> Dataset:
    """The data set of a run: tokens and mask of each example.

    Raises:
        ConfigurationError: the tools admit no examples, or only ones that are too long.
    """
    tools = tool_source(settings)
    examples = Examples(
        codec=base.codec,
        tools=tools,
        categories=possible_categories(tools),
        modes=settings.modes,
        seed=settings.seed,
        most_tokens=settings.max_tokens,
    )
    parts = []
    with progress_bars(detail="sessions") as progress:
        bar = progress.add_task("data", total=settings.examples)
        for chunk in _chunks(examples.rows(settings.examples), _ROWS_AT_ONCE):
            parts.append(Dataset.from_list(chunk, features=_FEATURES))
            progress.update(bar, advance=len(chunk))
    return concatenate_datasets(parts)


def _evaluate(model: Any, base: Base, settings: TuningSettings, place: Place) -> Sequence[Score]:
    """Success of the finished model, in its folder, too."""
    if not settings.evaluate_cases:
        return ()
    suite = TunedSuite(model.float().eval(), base.codec, tool_source(settings))
    played = EvaluationSettings(
        model=place.folder,
        cases=settings.evaluate_cases,
        seed=settings.seed,
        modes=settings.modes,
        seen=True,
    )
    scores = play_all(suite, played)
    write_scores(place.folder / "evaluation.json", scores, played, place.command)
    return scores


def _check_folder(settings: TuningSettings, place: Place) -> None:
    has_run = (place.folder / RECORD).exists()
    if place.resume:
        if not has_run:
            raise ConfigurationError(f"{place.folder} has nothing to resume: leave --resume out")
        if names := changed(read_settings(place.folder), settings):
            raise ConfigurationError(
                f"{', '.join(names)} differ from the run in {place.folder}: resume it with the "
                "options that it was started with, or choose another --out"
            )
    elif has_run:
        raise ConfigurationError(
            f"{place.folder} has a run: go on with --resume, or choose another --out"
        )


def _has_checkpoint(folder: Path) -> bool:
    return any(folder.glob("checkpoint-*"))


def _chunks(
    rows: Iterator[dict[str, list[int]]], size: int
) -> Iterator[list[dict[str, list[int]]]]:
    while chunk := list(islice(rows, size)):
        yield chunk


def _short(score: Score) -> dict[str, object]:
    return {
        "category": score.category,
        "mode": score.mode,
        "held_out": score.held_out,
        "cases": score.cases,
        "success": score.success,
    }


def _versions() -> dict[str, str]:
    import peft
    import trl

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trl": trl.__version__,
        "peft": peft.__version__,
    }
