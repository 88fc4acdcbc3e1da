"""What is measured, or fitted to a trace, and where profiles go."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from caesura.lab.settings import ENGINE, RESULTS, ByteSize, Listed

DEMO = "demo"


class CalibrationSettings(BaseModel):
    """What is calibrated; defaults as in `caesura bench`.

    Attributes:
        model: A path or name, or demo: a small model with random weights.
        kv_memory_bytes: Device memory for KV caches, such as 128MiB: bounds the contexts that are
            measured. Default: 128MiB for demo, else what vLLM chooses.
        threads: Compute threads on CPU.
        dtype: Data type of the model.
        max_num_batched_tokens: Query tokens per iteration at most.
        seconds: Time for measuring iterations, about.
        json_path: Write the profile to this file, with all that was measured.
        output_dir: Write a plot to this directory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Parameter(group=ENGINE)] = DEMO
    kv_memory_bytes: Annotated[ByteSize | None, Parameter(group=ENGINE)] = None
    threads: Annotated[PositiveInt, Parameter(group=ENGINE)] = 1
    dtype: Annotated[str, Parameter(group=ENGINE)] = "float32"
    max_num_batched_tokens: Annotated[int, Field(ge=16), Parameter(group=ENGINE)] = 512
    seconds: Annotated[float, Field(ge=1)] = 20.0
    json_path: Annotated[Path | None, Parameter(group=RESULTS)] = None
    output_dir: Annotated[Path | None, Parameter(group=RESULTS)] = None


class LoadCalibrationOptions(BaseModel):
    """How a profile is fitted to a trace.

    Attributes:
        base_path: A profile of the same machine and model, for KV size and link.
        policies: Whose runs are used. Default: all that run Caesura's scheduler.
        json_path: Write the profile to this file, with how it was made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_path: Annotated[Path, Parameter("--base")]
    policies: Annotated[Listed[str], Parameter("--policy")] = ()
    json_path: Annotated[Path | None, Parameter(group=RESULTS)] = None


class LoadCalibrationSettings(LoadCalibrationOptions):
    """What is fitted, and how.

    Attributes:
        trace_path: Of a production run.
    """

    trace_path: Path
