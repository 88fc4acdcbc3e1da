"""What comparisons run: on the engine, and what those in virtual time have in common with them."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt

from caesura.lab.bench.service import ServiceGoal
from caesura.lab.settings import (
    ENGINE,
    RESULTS,
    ByteSize,
    Distinct,
    NonNegativeFloat,
    PositiveFloat,
)
from caesura.policy_options import Option

DEMO = "demo"
"""Stands for the model that comes with the benchmark."""

ModelName = Annotated[str | None, BeforeValidator(lambda name: None if name == DEMO else name)]


class SettingsOfRuns(BaseModel):
    """What every benchmark has.

    Attributes:
        policies: What is compared, in the order of tables and plots.
        policy_options: An option of all policies that have it, such as served_by=arrival.
            Repeatable.
        seeds: One run for each.
        model: What is served.
        kv_memory_bytes: Device memory for KV caches, such as 32MiB.
        host_memory_bytes: Host memory for copies of paused contexts, such as 1GiB.
        json_path: Write all figures to this file.
        output_dir: Write report.md and plots to this directory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policies: Distinct[str]
    policy_options: dict[str, Option] = Field(default_factory=dict)
    seeds: Distinct[NonNegativeInt] = (0, 1, 2)
    model: Annotated[str | None, Parameter(group=ENGINE)] = None
    kv_memory_bytes: Annotated[ByteSize | None, Parameter(group=ENGINE)] = None
    host_memory_bytes: Annotated[ByteSize, Parameter(group=ENGINE)] = 0
    json_path: Annotated[Path | None, Parameter(group=RESULTS)] = None
    output_dir: Annotated[Path | None, Parameter(group=RESULTS)] = None


class ComparisonSettings(SettingsOfRuns):
    """A comparison of policies on one workload, on an engine or simulated.

    Attributes:
        workload: A trace file (JSONL) or a preset: infercept-sample, infercept-mix, coding-agent,
            tools.
        rates: Session arrivals per second; one run for each.
        scale_tokens: Factor on all lengths.
        scale_pauses: Factor on all pauses.
        shared_prefix_tokens: First tokens that all sessions of a class share.
        warmup_seconds: Sessions that arrive before this are not measured.
        slo_ttft_seconds: Goodput counts sessions each of whose turns has its first token within
            this time.
        slo_slowdown: And whose time per output token is within this multiple of what it is when
            nothing else runs.
        trace_path: Write a trace of all runs to this file, for https://ui.perfetto.dev:
            iterations, copies, pauses. Stock policies have less or nothing to trace.
    """

    workload: str = "infercept-sample"
    rates: Annotated[Distinct[PositiveFloat], Parameter(alias="--rate")]
    scale_tokens: PositiveFloat = 1.0
    scale_pauses: NonNegativeFloat = 1.0
    shared_prefix_tokens: Annotated[NonNegativeInt, Parameter("--shared-prefix")] = 0
    warmup_seconds: NonNegativeFloat = 0.0
    slo_ttft_seconds: PositiveFloat = 2.0
    slo_slowdown: PositiveFloat = 3.0
    trace_path: Annotated[Path | None, Parameter(group=RESULTS)] = None

    @property
    def goal(self) -> ServiceGoal:
        """What goodput asks for."""
        return ServiceGoal(self.slo_ttft_seconds, self.slo_slowdown)

    @property
    def extent(self) -> str:
        """How long a run is, for people."""
        raise NotImplementedError


class DrawnSettings(ComparisonSettings):
    """A comparison on a number of sessions; lengths and pauses suit a small engine.

    Attributes:
        sessions: Sessions per run.
        time_limit_seconds: Seconds per run at most; sessions that are unfinished by then do not
            count as completed.
    """

    rates: Annotated[Distinct[PositiveFloat], Parameter(alias="--rate")] = (1.2,)
    sessions: PositiveInt = 50
    scale_tokens: PositiveFloat = 0.5
    scale_pauses: NonNegativeFloat = 0.2
    time_limit_seconds: PositiveFloat | None = None


class BenchSettings(DrawnSettings):
    """A comparison of policies on an engine.

    Attributes:
        policies: What is compared: stock and stock-no-cache (vLLM without Caesura), end, discard,
            preserve, swap, ttl, infercept, min-waste.
        model: A path or name. By default, or as demo: a small model with random weights, built on
            first use.
        reserved_token_ids: Token ids that prompts never contain.
        threads: Compute threads of each engine on CPU, the same number for all.
        dtype: Data type of the model.
    """

    policies: Distinct[str] = ("stock", "swap", "min-waste")
    model: Annotated[ModelName, Parameter(group=ENGINE)] = None
    kv_memory_bytes: Annotated[ByteSize, Parameter(group=ENGINE)] = 32 * 2**20
    host_memory_bytes: Annotated[ByteSize, Parameter(group=ENGINE)] = 2**30
    reserved_token_ids: Annotated[tuple[NonNegativeInt, ...], Parameter(parse=False)] = ()
    threads: Annotated[PositiveInt, Parameter(group=ENGINE)] = 1
    dtype: Annotated[str, Parameter(group=ENGINE)] = "float32"

    @property
    def extent(self) -> str:
        """How long a run is, for people."""
        warmup = f", those from {self.warmup_seconds:g} s on measured"
        return f"{self.sessions} sessions per run{warmup if self.warmup_seconds else ''}"
