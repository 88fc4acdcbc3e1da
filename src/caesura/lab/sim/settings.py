"""What a simulation runs."""

from typing import Annotated, Self

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, model_validator

from caesura.lab.bench.arms import arm
from caesura.lab.bench.settings import ByteSize, ComparisonSettings, PositiveFloat
from caesura.policy import policy_options


class SimulationSettings(ComparisonSettings):
    """A comparison of policies in virtual time.

    Attributes:
        device: a name of `caesura.lab.sim.profiles.DEVICES`, or the path of a profile.
        model: a name of `caesura.lab.sim.profiles.MODELS`; None for that of the profile.
        tensor_parallel: devices that share the model.
        kv_memory_bytes: device memory for KV caches, over all devices.
        horizon_seconds: sessions arrive for so long.
        warmup_seconds: what happens before this is not measured.
        sessions: so many sessions arrive and all are measured, instead of the two above.
        link_bytes_per_second: to host memory, one way; None for the profile's.
        max_context_tokens: sessions are truncated to it; None for what the KV memory holds.
        max_batched_tokens, max_seqs, block_size: as in vLLM.
        policy_options: numbers for the policies that have them.
        copy_budget_bytes: per iteration and device, see `CaesuraConfig.copy_budget`.
    """

    device: str
    tensor_parallel: PositiveInt = 1
    horizon_seconds: PositiveFloat = 160.0
    warmup_seconds: Annotated[FiniteFloat, Field(ge=0)] = 40.0
    sessions: PositiveInt | None = None
    link_bytes_per_second: PositiveInt | None = None
    max_context_tokens: PositiveInt | None = None
    max_batched_tokens: PositiveInt = 2048
    max_seqs: PositiveInt = 256
    block_size: PositiveInt = 16
    policy_options: dict[str, float] = Field(default_factory=dict)
    copy_budget_bytes: Annotated[ByteSize, Field(gt=0)] = 64 * 2**20
    seeds: tuple[NonNegativeInt, ...] = (0, 1, 2)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sessions is None and self.warmup_seconds >= self.horizon_seconds:
            raise ValueError(
                f"a warm-up of {self.warmup_seconds:g} s leaves nothing of a horizon of "
                f"{self.horizon_seconds:g} s to measure"
            )
        arms = [arm(name) for name in self.policies]
        for one in arms:
            if one.needs_host_memory and not self.host_memory_bytes:
                raise ValueError(
                    f"policy {one.name!r} needs host memory: give --host-memory (for example 8GB), "
                    "or leave it out"
                )
        known = set[str]().union(*(policy_options(one.policy) for one in arms if one.policy))
        for option in self.policy_options:
            if option not in known:
                raise ValueError(
                    f"no policy of this simulation has an option {option!r}; "
                    f"they have: {', '.join(sorted(known)) or 'none'}"
                )
        return self

    @property
    def extent(self) -> str:
        """How long a run is, for people."""
        if self.sessions is not None:
            return f"{self.sessions} sessions per run"
        return (
            f"sessions arrive for {self.horizon_seconds:g} s and all are run to their end, those "
            f"that arrive from {self.warmup_seconds:g} s on are measured"
        )
