"""What a comparison runs."""

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
)

from caesura.units import parse_size

_T = TypeVar("_T")


def _distinct(values: tuple[_T, ...]) -> tuple[_T, ...]:
    if len(set(values)) != len(values):
        raise ValueError("a value is there twice")
    return values


ByteSize = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
"""Bytes, also from a text such as "32MiB"."""

PositiveFloat = Annotated[FiniteFloat, Field(gt=0)]


class OutputSettings(BaseModel):
    """Where results go.

    Attributes:
        json_path: where the figures are written, None for not at all.
        output_dir: where report.md and plots are written, None for not at all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    json_path: Path | None = None
    output_dir: Path | None = None


class ComparisonSettings(OutputSettings):
    """What all comparisons of policies on one workload have, on an engine or simulated.

    Attributes:
        workload: name of a preset or path of a JSONL trace.
        policies: names, in the order of tables and plots.
        rates: arrivals in sessions per second.
        seeds: of the choice of sessions, their arrivals and their tokens; one run for each.
        scale_tokens: factor on all lengths.
        scale_pauses: factor on all pauses.
        shared_prefix_tokens: first tokens that all sessions of a class share.
        model: what is served.
        kv_memory_bytes: device memory for KV caches.
        host_memory_bytes: host memory for copies of paused contexts.
        trace_path: where a trace of all runs is written, None for not at all.
    """

    workload: str = "infercept-sample"
    policies: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]
    rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1), AfterValidator(_distinct)]
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), AfterValidator(_distinct)] = (
        0,
        1,
        2,
    )
    scale_tokens: PositiveFloat = 1.0
    scale_pauses: Annotated[FiniteFloat, Field(ge=0)] = 1.0
    shared_prefix_tokens: NonNegativeInt = 0
    model: str | None = None
    kv_memory_bytes: ByteSize
    host_memory_bytes: ByteSize = 0
    trace_path: Path | None = None

    @property
    def extent(self) -> str:
        """How long a run is, for people."""
        raise NotImplementedError


class BenchSettings(ComparisonSettings):
    """A comparison of policies on an engine; lengths and pauses suit a small one.

    Attributes:
        sessions: per run.
        reserved_token_ids: token ids that prompts never contain.
        model: None for the bundled demo model.
        time_limit_seconds: per run; sessions unfinished by then do not count as completed.
    """

    sessions: PositiveInt = 40
    scale_tokens: PositiveFloat = 0.5
    scale_pauses: Annotated[FiniteFloat, Field(ge=0)] = 0.2
    kv_memory_bytes: ByteSize = 32 * 2**20
    reserved_token_ids: tuple[NonNegativeInt, ...] = ()
    time_limit_seconds: PositiveFloat | None = None

    @property
    def extent(self) -> str:
        """How long a run is, for people."""
        return f"{self.sessions} sessions per run"
