"""One simulated run: the production scheduler, a modelled device, sessions that arrive."""

import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from caesura.engine.config import CaesuraConfig
from caesura.lab.bench.arms import Arm, Variant, arm
from caesura.lab.bench.engines import EngineCounters
from caesura.lab.bench.replay import ReplayProgress, ReplayRecord
from caesura.lab.bench.stats import (
    RunReport,
    measure,
    normalized_latencies_ms,
    percentiles,
    resume_ttfts_ms,
)
from caesura.lab.bench.traces import simulated_part
from caesura.lab.bench.workload import WorkloadSession
from caesura.lab.sim.device import ModelledDevice
from caesura.lab.sim.settings import ORACLE_OPTION, SimulationSettings
from caesura.lab.sim.simulation import (
    SimulatedOutcome,
    SimulatedRun,
    SimulatedRunReport,
    usable_kv_tokens,
)
from caesura.lab.sim.virtual_replay import virtual_replay
from caesura.lab.sim.vllm_engine import HeadlessEngine, HeadlessSettings
from caesura.policy import policy_options
from caesura.policy.infercept import InferCept

_MAX_PAUSES = 4096  # of CaesuraConfig: past it sessions would be forgotten


def simulate(
    run: SimulatedRun, on_progress: Callable[[ReplayProgress], None] | None = None
) -> SimulatedOutcome:
    """Run it, in this process.

    Raises:
        ReplayError: the scheduler did not do what was asked.
    """
    sessions = run.arrivals.sessions
    names = [f"s{number}" for number in range(len(sessions))]
    started = time.process_time()
    with TemporaryDirectory() as folder:
        profile = Path(folder) / "profile.json"
        run.profile.save(profile)
        engine = HeadlessEngine(
            engine_settings(run, profile),
            ModelledDevice(run.profile, run.settings.link_bytes_per_second),
            BlockNames(run.settings, dict(zip(names, sessions, strict=True))),
        )
    record = virtual_replay(
        engine,
        names,
        sessions,
        run.arrivals.seconds,
        in_place=not _arm(run).is_stock,
        on_progress=on_progress,
    )
    cpu_seconds = time.process_time() - started
    engine.write_trace()
    return _outcome(run, record, engine, cpu_seconds)


def _arm(run: SimulatedRun) -> Arm:
    return arm(run.plan.policy)


def engine_settings(run: SimulatedRun, profile: Path | None = None) -> HeadlessSettings:
    """The scheduler of a run, which starts from the costs of a profile in a file."""
    settings, variant = run.settings, _arm(run).variant
    offloads = variant is Variant.VLLM_OFFLOADING
    return HeadlessSettings(
        model=run.model_path,
        kv_tokens=_kv_tokens(run),
        block_size=settings.block_size,
        kv_bytes_per_token=run.profile.kv_bytes_per_token,
        max_num_seqs=settings.max_seqs,
        max_num_batched_tokens=settings.max_batched_tokens,
        max_model_len=run.max_context_tokens,
        prefix_caching=variant is not Variant.NO_PREFIX_CACHE,
        caesura=_caesura_config(run, profile),
        offload_bytes=settings.host_memory_bytes if offloads else 0,
        knows_pauses=_knows_pauses(run),
        trace=simulated_part(settings, run.plan),
    )


def _kv_tokens(run: SimulatedRun) -> int:
    block_size = run.settings.block_size
    if _arm(run).variant is Variant.UNLIMITED_MEMORY:
        blocks = sum(_blocks(s.context_tokens, block_size) for s in run.arrivals.sessions)
        return blocks * block_size
    return usable_kv_tokens(run.settings, run.profile)


def _knows_pauses(run: SimulatedRun) -> bool:
    return _arm(run).policy == InferCept.name and bool(
        run.settings.policy_options.get(ORACLE_OPTION)
    )


def _caesura_config(run: SimulatedRun, profile: Path | None) -> CaesuraConfig | None:
    settings, policy = run.settings, _arm(run).policy
    if policy is None:
        return None
    unlimited = _arm(run).variant is Variant.UNLIMITED_MEMORY
    known = policy_options(policy)
    return CaesuraConfig.parse(
        {
            "policy": policy,
            "policy_options": {
                name: value for name, value in settings.policy_options.items() if name in known
            },
            "host_memory": 0 if unlimited else settings.host_memory_bytes,
            "copy_budget": settings.copy_budget_bytes * (settings.tensor_parallel or 1),
            "max_pauses": max(_MAX_PAUSES, len(run.arrivals.sessions)),
            # As the engine chooses on CPU, where copies cannot overlap with computation.
            "load_in_step": not run.profile.link_overlaps,
            "profile": None if profile is None else str(profile),
        }
    )


def _outcome(
    run: SimulatedRun, record: ReplayRecord, engine: HeadlessEngine, cpu_seconds: float
) -> SimulatedOutcome:
    settings = run.settings
    report = measure(
        run.plan,
        record,
        _counters(run, engine),
        prompts_shared=settings.shared_prefix_tokens > 0,
        truncated_sessions=run.arrivals.truncated,
        dropped_sessions=run.arrivals.dropped,
    )
    measured = record
    if settings.sessions is None:
        window = settings.warmup_seconds, settings.horizon_seconds
        measured = arrived_in(record, *window)
        report = replace(
            report,
            completed_per_second=completed_per_second(record, *window),
            normalized_latency_ms=percentiles(normalized_latencies_ms(measured)),
            resume_ttft_ms=percentiles(resume_ttfts_ms(measured)),
        )
    figures = {field.name: getattr(report, field.name) for field in fields(RunReport)}
    return SimulatedOutcome(
        run.plan,
        measured,
        SimulatedRunReport(
            **figures,
            measured_sessions=len(measured.sessions),
            simulated_seconds=record.finished_at - record.started_at,
            steps=engine.steps,
            durations=tuple(engine.duration_rows()),
        ),
        cpu_seconds,
    )


def _counters(run: SimulatedRun, engine: HeadlessEngine) -> EngineCounters:
    if _arm(run).variant is Variant.VLLM_OFFLOADING:
        return EngineCounters(
            scheduled_tokens=engine.scheduled_tokens,
            copied_tokens=engine.stored_tokens,
            loaded_tokens=engine.loaded_tokens,
        )
    if _arm(run).is_stock:
        return EngineCounters(scheduled_tokens=engine.scheduled_tokens)
    counts = engine.counts()
    return EngineCounters(
        scheduled_tokens=engine.scheduled_tokens,
        held_tokens=int(counts.get("held_tokens", 0)),
        copied_tokens=int(counts.get("copied_tokens", 0)),
        loaded_tokens=int(counts.get("loaded_tokens", 0)),
        pauses=int(counts.get("pauses", 0)),
    )


def arrived_in(record: ReplayRecord, since_seconds: float, until_seconds: float) -> ReplayRecord:
    """The sessions that arrived in `[since, until)`, whenever they were over."""
    sessions = [s for s in record.sessions if since_seconds <= s.arrived_at < until_seconds]
    return replace(record, sessions=tuple(sessions))


def completed_per_second(record: ReplayRecord, since_seconds: float, until_seconds: float) -> float:
    """Completions in `[since, until)`, whenever the sessions arrived, over that time."""
    endings = [s.turns[-1].finished_at for s in record.sessions if s.turns]
    completed = sum(t is not None and since_seconds <= t < until_seconds for t in endings)
    return completed / (until_seconds - since_seconds)


class BlockNames:
    """Hashes of blocks by session and position.

    Sessions of a class share the first tokens of their first prompts; a prompt keeps at least
    one token of its own.
    """

    def __init__(
        self, settings: SimulationSettings, sessions: Mapping[str, WorkloadSession]
    ) -> None:
        self._kinds = {name: session.kind for name, session in sessions.items()}
        self._shared_blocks = {
            name: min(settings.shared_prefix_tokens, session.segments[0].append_tokens - 1)
            // settings.block_size
            for name, session in sessions.items()
        }

    def __call__(self, session: str, index: int) -> bytes:
        """The hash of a session's block by its index."""
        if index < self._shared_blocks[session]:
            return f"shared by {self._kinds[session]}#{index}".encode()
        return f"{session}#{index}".encode()


def _blocks(tokens: int, block_size: int) -> int:
    return -(-tokens // block_size)
