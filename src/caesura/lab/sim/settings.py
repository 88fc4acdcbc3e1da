"""What a simulation runs."""

from enum import StrEnum
from typing import Annotated, Self

from cyclopts import Parameter
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from caesura.lab.bench.arms import arm, simulated_names
from caesura.lab.bench.settings import ComparisonSettings
from caesura.lab.settings import ENGINE, ByteSize, Distinct, NonNegativeFloat, PositiveFloat
from caesura.lab.sim.devices import SimulatedDevice
from caesura.policy import policy_options
from caesura.policy.infercept import InferCept
from caesura.policy.min_waste import MinWaste
from caesura.units import parse_size

ORACLE_OPTION = "oracle_code_rule"
"""Of `infercept`: not 0 for the rule of its released code, which knows how long pauses last. Only
a simulation does."""

KNOWN_WORK_OPTION = "known_work"
"""Of `min-waste`: not 0 for sessions ranked by the tokens that they will really generate. Only a
simulation knows them."""


class TurnsAs(StrEnum):
    """How the turns of a session come to Caesura's policies. Without Caesura each is a request."""

    IN_PLACE = "in-place"
    """Of a session on the server, which is closed in the end."""
    REQUESTS = "requests"
    """Each with the whole conversation, as clients send it; tool calls are recognised."""
    UNNAMED = "unnamed"
    """The same without tool calls, where all contexts are kept (`keep_contexts=all`)."""


def _parse_bandwidth(value: object) -> object:
    return parse_size(value.strip().removesuffix("/s")) if isinstance(value, str) else value


class SimulationSettings(ComparisonSettings):
    """A comparison of policies in virtual time.

    Attributes:
        policies: What is compared: stock, stock-no-cache, stock-host (vLLM without Caesura; with
            its own CPU offloading), infinite (memory for everything), and any policy of
            `caesura serve`. Default: all but end.
        device: What is simulated: a100-80gb, h100-80gb, h200, l40s, mi300x, or a profile of
            `caesura calibrate` (JSON). a100-80gb-published takes InferCept's constants as they
            stand, without a price for reading KV.
        model: What it serves: gpt-j-6b, vicuna-13b, llama-3.1-8b, llama-3.1-70b, qwen3-8b,
            qwen3-32b, qwen3-coder-30b-a3b, glm-4.5-air. Default: that of the profile, else
            gpt-j-6b.
        tensor_parallel: Devices that share the model. Default: as few as hold it.
        kv_memory_bytes: Memory for KV caches over all devices, such as 50GB. Default: what fits
            beside the weights.
        host_memory_bytes: Host memory for copies, such as 8GB; for stock-host too.
        link_bytes_per_second: To host memory, one way, such as 25GB/s. Default: the profile's.
        horizon_seconds: Sessions arrive for so long; all are run to their end.
        sessions: So many sessions, all measured, with the arrivals of `caesura bench`, instead of
            --horizon and --warmup.
        turns_as: How turns come to Caesura: in-place, of a session on the server; requests, as
            clients send them over HTTP, each with the whole conversation and recognised by the
            tool that the last one called; unnamed, the same without tools, all contexts kept.
        max_context_tokens: Truncate sessions to this many tokens. Default: what the memory holds.
        max_batched_tokens: As in vLLM.
        max_seqs: As in vLLM.
        block_size: As in vLLM.
        copy_budget_bytes: Bytes copied out and in per iteration and device at most, where copies
            do not overlap with computation; elsewhere the limit is what the link moves meanwhile.
    """

    workload: str = "infercept-mix"
    policies: Annotated[Distinct[str], Parameter(show_default=False)] = simulated_names()
    rates: Annotated[Distinct[PositiveFloat], Parameter(alias="--rate")] = (5.0, 7.0, 9.0)
    seeds: Distinct[NonNegativeInt] = (0, 1, 2)
    device: Annotated[str, Parameter(group=ENGINE)] = "a100-80gb"
    model: Annotated[str | None, Parameter(group=ENGINE)] = None
    tensor_parallel: Annotated[PositiveInt | None, Parameter(group=ENGINE)] = None
    host_memory_bytes: Annotated[ByteSize, Parameter(group=ENGINE)] = 8 * 10**9
    link_bytes_per_second: Annotated[
        PositiveInt | None,
        BeforeValidator(_parse_bandwidth),
        Parameter(group=ENGINE, metavar="SIZE/s"),
    ] = None
    horizon_seconds: PositiveFloat = 160.0
    warmup_seconds: NonNegativeFloat = 40.0
    sessions: PositiveInt | None = None
    turns_as: TurnsAs = TurnsAs.IN_PLACE
    max_context_tokens: Annotated[PositiveInt | None, Parameter("--max-context")] = None
    max_batched_tokens: Annotated[PositiveInt, Parameter(group=ENGINE)] = 2048
    max_seqs: Annotated[PositiveInt, Parameter(group=ENGINE)] = 256
    block_size: Annotated[PositiveInt, Parameter(group=ENGINE)] = 16
    copy_budget_bytes: Annotated[ByteSize, Field(gt=0), Parameter(group=ENGINE)] = 64 * 2**20

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sessions is None and self.warmup_seconds >= self.horizon_seconds:
            raise ValueError(
                f"a warm-up of {self.warmup_seconds:g} s leaves nothing of a horizon of "
                f"{self.horizon_seconds:g} s to measure"
            )
        if self.sessions is not None and "horizon_seconds" in self.model_fields_set:
            raise ValueError("give --sessions or --horizon, not both: either says how many arrive")
        arms = [arm(name) for name in self.policies]
        for one in arms:
            if one.needs_host_memory and not self.host_memory_bytes:
                raise ValueError(
                    f"policy {one.name!r} needs host memory: give --host-memory (for example 8GB), "
                    "or leave it out"
                )
        known = set[str]().union(*(policy_options(one.policy) for one in arms if one.policy))
        if any(one.policy == InferCept.name for one in arms):
            known.add(ORACLE_OPTION)
        if any(one.policy == MinWaste.name for one in arms):
            known.add(KNOWN_WORK_OPTION)
        for option in self.policy_options:
            if option not in known:
                raise ValueError(
                    f"no policy of this simulation has an option {option!r}; "
                    f"they have: {', '.join(sorted(known)) or 'none'}"
                )
        return self

    def on(self, device: SimulatedDevice) -> Self:
        """The same with what a device settles: its model, how many of it, the memory it leaves.

        Raises:
            ValueError: a measured profile does not say how much memory is left.
        """
        memory = self.kv_memory_bytes
        return self.model_copy(
            update={
                "model": device.profile.model,
                "tensor_parallel": device.tensor_parallel,
                "kv_memory_bytes": device.kv_memory_bytes() if memory is None else memory,
            }
        )

    @property
    def extent(self) -> str:
        """How long a run is, for people."""
        if self.sessions is not None:
            return f"{self.sessions} sessions per run"
        return (
            f"sessions arrive for {self.horizon_seconds:g} s and all are run to their end, those "
            f"that arrive from {self.warmup_seconds:g} s on are measured"
        )
