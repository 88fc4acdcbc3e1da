"""`caesura calibrate`."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import App

from caesura.cli.extras import Extra, require
from caesura.cli.options import FLATTENED, command_line, examples
from caesura.lab.calibrate.settings import (
    DEMO,
    CalibrationSettings,
    LoadCalibrationOptions,
    LoadCalibrationSettings,
)

app = App(
    "calibrate",
    help_epilogue=examples(
        "caesura calibrate --json profile.json --out out/calibration",
        "caesura calibrate trace trace.json --base profile.json --json loaded.json",
    ),
)


@app.default
def calibrate(*, settings: Annotated[CalibrationSettings | None, FLATTENED] = None) -> None:
    """Measure what iterations and copies cost here: a device profile for `caesura simulate`.

    Runs the real engine in this process, on an otherwise idle machine. Takes about a minute. With
    `caesura serve --profile` the policy starts from these costs instead of from defaults.
    """
    require(Extra.LAB)
    settings = settings or CalibrationSettings()
    from caesura.cli.extras import require_model

    if settings.model != DEMO:
        settings = settings.model_copy(update={"model": require_model(settings.model)})
    # Read when torch and vLLM are imported.
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from caesura.lab.calibrate.run import run_calibration

    run_calibration(settings, command=command_line())


@app.command
def trace(file: Path, /, *, options: Annotated[LoadCalibrationOptions, FLATTENED]) -> None:
    """Fit a profile to a trace of `caesura bench --trace`, and start no engine.

    What production adds to each iteration is included, so the simulator can be compared with the
    run.

    Args:
        file: The trace.
    """
    require(Extra.LAB)
    from caesura.lab.calibrate.load_calibration import run_load_calibration

    run_load_calibration(
        LoadCalibrationSettings(trace_path=file, **options.model_dump()), command=command_line()
    )
