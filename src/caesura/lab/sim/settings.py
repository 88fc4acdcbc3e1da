"""What a simulation runs."""

from enum import StrEnum
from typing import Annotated, Self

from cyclopts import Parameter
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from caesura.lab.bench.arms import arm, simulated_names
from caesura.lab.bench.settings import ComparisonSettings
from caesura.lab.settings import (
    ENGINE,
    ByteSize,
    Distinct,
    Listed,
    NonNegativeFloat,
    PositiveFloat,
)
from caesura.lab.sim.devices import SimulatedDevice
from caesura.lab.sim.fluid import FLUID_POLICIES
from caesura.lab.sim.outages import Outage, OutageKind, parse_outage
from caesura.lab.sim.routing import STICKY, make_router
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


FLEET = "Several engines"
"""Panel of options: how many engines, and who decides where turns go."""


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
        rates: Session arrivals per second and engine; one run for each.
        engines: So many engines behind a router, each with the memory given here. Rates and
            sessions per second are per engine.
        router: Where turns go: sticky (a session goes where the fewest tokens are in charge, and
            stays), hash (by the session's name), least (each turn where the fewest are open, as
            vLLM's own balancer), or a class of yours as module:Class.
        stale_seconds: The router looks at the loads this often. In between it knows only what it
            has sent itself. 0 for loads as they are.
        fail: Engines that fail, such as 40:0 for the first engine at 40 s. Contexts and outputs
            under way are lost, and sessions go on elsewhere.
        fluid: Engines as sums of tokens, without scheduler and blocks: for a thousand of them.
            Policies stock and min-waste only. docs/explanation/simulator.md says how far it is
            from the real scheduler.
        drain: Engines that take no more turns, such as 40:0. Turns that run are finished there;
            sessions go elsewhere when they return.
        horizon_seconds: Sessions arrive for so long; all are run to their end.
        sessions: So many sessions over all engines, all measured, with the arrivals of `caesura
            bench`, instead of --horizon and --warmup.
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
    engines: Annotated[PositiveInt, Parameter(group=FLEET)] = 1
    router: Annotated[str, Parameter(group=FLEET)] = STICKY
    stale_seconds: Annotated[NonNegativeFloat, Parameter(group=FLEET)] = 0.0
    fail: Annotated[Listed[str], Parameter(group=FLEET, metavar="SECONDS:ENGINE")] = ()
    drain: Annotated[Listed[str], Parameter(group=FLEET, metavar="SECONDS:ENGINE")] = ()
    fluid: Annotated[bool, Parameter(group=FLEET)] = False
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
        self._check_fleet()
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

    def _check_fleet(self) -> None:
        make_router(self.router)
        outages = self.outages
        for outage in outages:
            if outage.engine >= self.engines:
                raise ValueError(
                    f"there is no engine {outage.engine} to {outage.kind}: engines are numbered "
                    f"from 0 to {self.engines - 1}; give more with --engines"
                )
        gone = [outage.engine for outage in outages]
        if len(set(gone)) < len(gone):
            raise ValueError("an engine can go away only once: it does not come back")
        if len(gone) == self.engines:
            raise ValueError("all engines go away: leave one out of --fail and --drain")
        unknown = [name for name in self.policies if name not in FLUID_POLICIES]
        if self.fluid and unknown:
            raise ValueError(
                f"--fluid knows the policies {' and '.join(FLUID_POLICIES)}, not "
                f"{', '.join(unknown)}: give --policies {','.join(FLUID_POLICIES)}"
            )
        if self.fluid and (self.turns_as is not TurnsAs.IN_PLACE or self.shared_prefix_tokens):
            raise ValueError("--fluid knows sessions in place only, and no shared prefix")
        if (self.engines > 1 or self.fluid) and self.trace_path is not None:
            raise ValueError(
                "a trace is of one engine: leave out --trace, or --engines and --fluid"
            )

    @property
    def outages(self) -> tuple[Outage, ...]:
        """Engines that go away.

        Raises:
            ValueError: one is not given as a time and a number.
        """
        return (
            *(parse_outage(text, OutageKind.FAIL) for text in self.fail),
            *(parse_outage(text, OutageKind.DRAIN) for text in self.drain),
        )

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
