"""`caesura train`."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from pydantic import PositiveFloat, PositiveInt

from caesura.cli.extras import Extra, require
from caesura.cli.options import FLATTENED, command_line, examples
from caesura.lab.settings import RESULTS
from caesura.lab.train.settings import EvaluationOptions, EvaluationSettings, TrainingSettings
from caesura.lab.train.tuning.settings import TuningOptions, TuningSettings

app = App(
    "train",
    help_epilogue=examples(
        "caesura train Qwen/Qwen3-4B-Instruct-2507 --tools caesura.toml --out out/agent",
        "caesura train evaluate out/agent --json out/evaluation.json",
        "caesura serve out/agent --config caesura.toml",
        "caesura train demo --out out/demo-model",
    ),
)
_DEFAULT_OUT = Path("out/model")


@app.default
def train(
    base: str,
    /,
    *,
    options: Annotated[TuningOptions | None, FLATTENED] = None,
    tools: Path | None = None,
    out: Annotated[Path, Parameter(group=RESULTS)] = _DEFAULT_OUT,
    resume: bool = False,
    threads: PositiveInt = 2,
) -> None:
    """Train a model to call functions asynchronously.

    Any causal language model with a chat template can be fine-tuned (docs/how-to/train.md); that
    needs pip install "caesura[train]". What is trained is saved every few minutes: stop it whenever
    you like, and go on with --resume.

    Args:
        base: The model to fine-tune: a path, or a name on the Hugging Face hub.
        tools: The tools to train for: the TOML file of `caesura serve --config`, or JSON with a
            list of OpenAI tool definitions. Without it, tools are made up for each example, and
            the model learns to use any.
        out: Where model and checkpoints go.
        resume: Go on from the checkpoint in --out, with the same options.
        threads: Compute threads.
    """
    require(Extra.TRAIN)
    from caesura.cli.extras import require_model

    base = require_model(base)
    _yield_cores()
    from caesura.lab.train.tuning.run import Place, run_tuning
    from caesura.lab.train.tuning.tool_files import read_tools

    run_tuning(
        TuningSettings(
            base=base,
            tools=() if tools is None else read_tools(tools),
            **(options or TuningOptions()).model_dump(),
        ),
        Place(out, resume, threads, command_line()),
    )


@app.command
def evaluate(
    model: Path,
    /,
    *,
    options: Annotated[EvaluationOptions | None, FLATTENED] = None,
    threads: PositiveInt = 2,
    json: Annotated[Path | None, Parameter(group=RESULTS)] = None,
) -> None:
    """Let a model play sessions, and count successes.

    Args:
        model: The folder of a model that `caesura train` made.
        threads: Compute threads.
        json: Write all figures to this file.
    """
    require(Extra.LAB)
    _yield_cores()
    from caesura.lab.train.run import run_evaluation

    settings = EvaluationSettings(model=model, **(options or EvaluationOptions()).model_dump())
    run_evaluation(settings, threads, json, command_line())


@app.command
def demo(
    *,
    settings: Annotated[TrainingSettings | None, FLATTENED] = None,
    minutes: PositiveFloat | None = None,
    out: Annotated[Path, Parameter(group=RESULTS)] = _DEFAULT_OUT,
    resume: bool = False,
    threads: PositiveInt = 2,
) -> None:
    """Train the demo's small model from scratch: an hour or two on two cores.

    Args:
        minutes: End after this time, however slow the machine.
        out: Where model and checkpoint go.
        resume: Go on from the checkpoint in --out.
        threads: Compute threads.
    """
    require(Extra.LAB)
    _yield_cores()
    from caesura.lab.train.run import run_training

    settings = settings or TrainingSettings()
    if minutes is not None:
        settings = settings.model_copy(update={"seconds": 60 * minutes})
    run_training(settings, out, resume, threads)


def _yield_cores() -> None:
    """Threads that wait for each other must not burn the core that the other one needs."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
