"""Settings of a fine-tuning run, kept beside its checkpoints so that it can be resumed."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from caesura.cml import Mode
from caesura.cml.frames import JsonObject
from caesura.errors import ConfigurationError

RECORD = "cml.json"
"""The file that says what a model was trained for. `--evaluate` reads it."""


@dataclass(frozen=True, slots=True)
class TuningSettings:
    """What is trained, and how.

    Attributes:
        base: the model to begin with: a path, or a name on the hub.
        lora: train low-rank adapters and the markers; else all weights.
        tools: definitions of the user's tools; none for tools made up for each example.
        modes: of the sessions.
        examples: in the data set.
        steps: optimiser steps; 0 for as many as the epochs need.
        epochs: passes over the data set.
        batch_size: examples in a batch.
        accumulate: batches in a step.
        learning_rate: the peak.
        max_tokens: longest example.
        lora_rank: rank of the adapters.
        save_steps: steps between checkpoints.
        evaluate_steps: steps between rollouts; 0 for none during training.
        evaluate_cases: sessions per category and mode of each rollout.
        seed: of data, adapters and their order.
        chat_template: a file with the chat template, instead of the model's.
    """

    base: str
    lora: bool = True
    tools: tuple[JsonObject, ...] = ()
    modes: tuple[Mode, ...] = tuple(Mode)
    examples: int = 20_000
    steps: int = 0
    epochs: float = 1.0
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 2e-4
    max_tokens: int = 2048
    lora_rank: int = 16
    save_steps: int = 200
    evaluate_steps: int = 0
    evaluate_cases: int = 5
    seed: int = 0
    chat_template: str | None = None

    def as_json(self) -> dict[str, Any]:
        """What `read_settings` reads."""
        return asdict(self)


def write_record(folder: Path, settings: TuningSettings, **more: object) -> None:
    """Say in a folder what its model was trained for."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format": 1, "settings": settings.as_json(), **more}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / RECORD).write_text(text + "\n", "utf-8")


def read_settings(folder: Path) -> TuningSettings:
    """The settings of the run that wrote to this folder.

    Raises:
        ConfigurationError: there is none, or one of another version.
    """
    file = folder / RECORD
    try:
        values = json.loads(file.read_text("utf-8"))["settings"]
        values["tools"] = tuple(values["tools"])
        values["modes"] = tuple(Mode(mode) for mode in values["modes"])
        return TuningSettings(**values)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{folder} has no {RECORD}: it is not a model that caesura train made"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}; train again") from None


def changed(before: TuningSettings, now: TuningSettings) -> list[str]:
    """Names of the settings in which two runs differ."""
    return [
        field.name
        for field in fields(TuningSettings)
        if getattr(before, field.name) != getattr(now, field.name)
    ]
