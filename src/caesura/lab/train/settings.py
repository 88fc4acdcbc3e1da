"""How the demo's model is trained, and how models are evaluated."""

import math
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from caesura.cml import Mode
from caesura.lab.settings import Listed, NonNegativeFloat, PositiveFloat


class TrainingSettings(BaseModel):
    """How long and how fast to train.

    Attributes:
        steps: Optimiser steps in all.
        seconds: The run ends after this time, however slow the machine is; the schedule follows
            whichever of the two is further.
        tokens_per_step: Tokens in a batch, padding included.
        muon_rate: Peak learning rate of the matrices.
        adam_rate: Peak learning rate of embeddings, output layer and norms.
        warmup_steps: Steps over which the rates rise.
        easy_share: Share of the steps, at the start, with easy tasks only.
        decay_share: Share of the steps, at the end, over which the rates fall to nothing.
        seed: Of data and weights.
        checkpoint_seconds: Seconds between checkpoints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: PositiveInt = 3000
    seconds: Annotated[float, Field(gt=0), Parameter(parse=False)] = math.inf
    tokens_per_step: PositiveInt = 4096
    muon_rate: PositiveFloat = 0.006
    adam_rate: PositiveFloat = 0.0015
    warmup_steps: PositiveInt = 50
    easy_share: NonNegativeFloat = 0.1
    decay_share: PositiveFloat = 0.5
    seed: NonNegativeInt = 0
    checkpoint_seconds: NonNegativeFloat = 300.0


class EvaluationOptions(BaseModel):
    """What is played.

    Attributes:
        cases: Sessions per category and mode, with values and phrasings that training never sees.
        seed: Of tasks and times.
        modes: Of the sessions: sync, sync_parallel, async.
        categories: Only these kinds of tasks. Default: all.
        seen: Also play as many tasks as in training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: PositiveInt = 200
    seed: NonNegativeInt = 0
    modes: Annotated[Listed[Mode], Field(min_length=1)] = tuple(Mode)
    categories: Listed[str] = ()
    seen: bool = False


class EvaluationSettings(EvaluationOptions):
    """What is played, with which model.

    Attributes:
        model: Folder of an exported model.
    """

    model: Path
