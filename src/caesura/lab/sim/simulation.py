"""What goes to the processes of a simulation, and what comes back. No vLLM here."""

from dataclasses import dataclass

from caesura.lab.bench.arrivals import Arrivals
from caesura.lab.bench.stats import RunOutcome, RunPlan, RunReport
from caesura.lab.sim.duration_scores import DurationScore
from caesura.lab.sim.settings import SimulationSettings
from caesura.policy.profile import DeviceProfile


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """All that a run needs, to be sent to a process.

    Attributes:
        plan: which run.
        settings: the comparison that it belongs to.
        profile: the device.
        model_path: any model that vLLM can read a configuration of.
        arrivals: the sessions.
        max_context_tokens: the longest context.
    """

    plan: RunPlan
    settings: SimulationSettings
    profile: DeviceProfile
    model_path: str
    arrivals: Arrivals
    max_context_tokens: int


@dataclass(frozen=True, slots=True)
class EngineSpread:
    """A figure of engines side by side."""

    lowest: float
    mean: float
    highest: float


@dataclass(frozen=True, slots=True)
class SimulatedRunReport(RunReport):
    """The figures of a simulated run.

    Attributes:
        simulated_seconds: virtual time until the last session was over.
        steps: iterations of the schedulers.
        engines: how many there were. `rate`, `completed_per_second` and `goodput_per_second` are
            per engine; counts and shares are over all of them.
        router: where turns went.
        moved_turns_share: of the turns after the first ones of their sessions, those that went to
            another engine than the one before; None if there was none.
        computed_tokens: of an engine.
        durations: pauses per endpoint, as the policy predicted them and as they were; of the first
            engine.
    """

    simulated_seconds: float
    steps: int
    engines: int
    router: str
    moved_turns_share: float | None
    computed_tokens: EngineSpread
    durations: tuple[DurationScore, ...] = ()


@dataclass(frozen=True, slots=True)
class SimulatedOutcome(RunOutcome):
    """One simulated run; `replay` has the measured sessions, or some of very many.

    Attributes:
        report: its figures.
        cpu_seconds: what it took.
    """

    report: SimulatedRunReport
    cpu_seconds: float


def usable_kv_tokens(settings: SimulationSettings, profile: DeviceProfile) -> int:
    """Tokens that fit the KV memory, in whole blocks; one block is vLLM's null block.

    Raises:
        ValueError: not even one block is left.
    """
    block_bytes = settings.block_size * profile.kv_bytes_per_token
    blocks = (settings.kv_memory_bytes or 0) // block_bytes - 1
    if blocks < 1:
        raise ValueError(
            f"KV memory of {settings.kv_memory_bytes} bytes does not hold two blocks of "
            f"{block_bytes} bytes ({settings.block_size} tokens of {profile.model}); give more "
            "with --kv-memory"
        )
    return blocks * settings.block_size
