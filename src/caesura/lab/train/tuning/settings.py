"""Settings of a fine-tuning run, kept beside its checkpoints so that it can be resumed."""

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from caesura.cml import Mode
from caesura.errors import ConfigurationError
from caesura.lab.settings import Listed, NonNegativeFloat, PositiveFloat

RECORD = "cml.json"
"""The file that says what a model was trained for. `caesura train evaluate` reads it."""


class TuningOptions(BaseModel):
    """How a model is trained.

    Attributes:
        lora: Train low-rank adapters and the markers (the default), or all weights.
        modes: Of the sessions: sync, sync_parallel, async.
        examples: Generated sessions to train on.
        steps: Optimiser steps in all, instead of --epochs.
        epochs: Passes over the examples.
        batch_size: Examples in a batch.
        accumulate: Batches in a step.
        learning_rate: The peak. Default: 2e-4 for adapters, 2e-5 for all weights.
        max_tokens: Longest example.
        lora_rank: Rank of the adapters.
        save_steps: Steps between checkpoints.
        evaluate_steps: Steps between rollouts during training; 0 for none.
        evaluate_cases: Sessions per category and mode of each rollout, with values and phrasings
            that training never sees; 0 for no evaluation.
        seed: Of data, adapters and their order.
        chat_template: A Jinja file, instead of the model's own template.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lora: Annotated[bool, Parameter(negative="--full", show_default=False)] = True
    modes: Annotated[Listed[Mode], Field(min_length=1)] = tuple(Mode)
    examples: PositiveInt = 20_000
    steps: Annotated[NonNegativeInt, Parameter(show_default=False)] = 0
    epochs: NonNegativeFloat = 1.0
    batch_size: PositiveInt = 8
    accumulate: PositiveInt = 1
    learning_rate: Annotated[PositiveFloat | None, Field(validate_default=True)] = None
    max_tokens: Annotated[int, Field(ge=64)] = 2048
    lora_rank: PositiveInt = 16
    save_steps: PositiveInt = 200
    evaluate_steps: NonNegativeInt = 0
    evaluate_cases: Annotated[NonNegativeInt, Parameter("--cases")] = 5
    seed: NonNegativeInt = 0
    chat_template: Path | None = None

    @field_validator("learning_rate")
    @classmethod
    def _usual_rate(cls, rate: float | None, given: ValidationInfo) -> float:
        return rate or (2e-4 if given.data.get("lora") else 2e-5)


class TuningSettings(TuningOptions):
    """What is trained, and how.

    Attributes:
        base: The model to begin with: a path, or a name on the hub.
        tools: Definitions of the user's tools; none for tools made up for each example.
    """

    base: str
    tools: tuple[dict[str, Any], ...] = ()


def write_record(folder: Path, settings: TuningSettings, **more: object) -> None:
    """Say in a folder what its model was trained for."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format": 1, "settings": settings.model_dump(mode="json"), **more}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / RECORD).write_text(text + "\n", "utf-8")


def read_settings(folder: Path) -> TuningSettings:
    """The settings of the run that wrote to this folder.

    Raises:
        ConfigurationError: there is none, or one of another version.
    """
    file = folder / RECORD
    try:
        return TuningSettings.model_validate(json.loads(file.read_text("utf-8-sig"))["settings"])
    except FileNotFoundError:
        raise ConfigurationError(
            f"{folder} has no {RECORD}: it is not a model that caesura train made"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}; train again") from None


def changed(before: TuningSettings, now: TuningSettings) -> list[str]:
    """Names of the settings in which two runs differ."""
    return [
        name for name in TuningSettings.model_fields if getattr(before, name) != getattr(now, name)
    ]
