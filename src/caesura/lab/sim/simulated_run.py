"""One simulated run: the production scheduler, a modelled device, sessions that arrive."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from caesura.engine.config import CaesuraConfig, KeepContexts
from caesura.lab.bench.arms import Arm, Variant, arm
from caesura.lab.bench.engines import EngineCounters
from caesura.lab.bench.replay import ReplayProgress, ReplayRecord
from caesura.lab.bench.service import Yardstick
from caesura.lab.bench.stats import ALL_ARRIVALS, RunReport, Window, arrived_in, measure
from caesura.lab.bench.traces import simulated_part
from caesura.lab.bench.unloaded import ProfiledTimes
from caesura.lab.bench.vllm_metered import waste_of
from caesura.lab.bench.workload import WorkloadSession
from caesura.lab.sim.device import ModelledDevice
from caesura.lab.sim.fleet import Routing
from caesura.lab.sim.fluid import FluidEngine, FluidSettings
from caesura.lab.sim.fluid_experience import Experience
from caesura.lab.sim.routing import make_router
from caesura.lab.sim.settings import KNOWN_WORK_OPTION, ORACLE_OPTION, SimulationSettings, TurnsAs
from caesura.lab.sim.simulation import (
    EngineSpread,
    SimulatedOutcome,
    SimulatedRun,
    SimulatedRunReport,
    usable_kv_tokens,
)
from caesura.lab.sim.virtual_replay import FleetRecord, virtual_replay
from caesura.lab.sim.vllm_engine import HeadlessEngine, HeadlessSettings
from caesura.lab.sim.vllm_known_work import know_work
from caesura.policy import policy_options
from caesura.policy.infercept import InferCept
from caesura.policy.min_waste import MinWaste

_Engine = HeadlessEngine | FluidEngine
_SESSIONS_SENT = 20_000
_MAX_PAUSES = 4096  # of CaesuraConfig: past it sessions would be forgotten


def simulate(
    run: SimulatedRun, on_progress: Callable[[ReplayProgress], None] | None = None
) -> SimulatedOutcome:
    """Run it, in this process.

    Raises:
        ReplayError: the scheduler did not do what was asked.
    """
    started = time.process_time()
    engines, record = simulated(run, on_progress)
    cpu_seconds = time.process_time() - started
    for engine in engines:
        engine.write_trace()
    return _outcome(run, record, engines, cpu_seconds)


def simulated(
    run: SimulatedRun, on_progress: Callable[[ReplayProgress], None] | None = None
) -> tuple[Sequence[_Engine], FleetRecord]:
    """The engines after a run, and what happened.

    Raises:
        ReplayError: the scheduler did not do what was asked.
    """
    sessions = run.arrivals.sessions
    settings = run.settings
    names = [f"s{number}" for number in range(len(sessions))]
    engines = engines_of(run, dict(zip(names, sessions, strict=True)))
    record = virtual_replay(
        engines,
        names,
        sessions,
        run.arrivals.seconds,
        in_place=_in_place(run),
        names_endpoints=settings.turns_as is not TurnsAs.UNNAMED,
        routing=Routing(make_router(settings.router), settings.stale_seconds, settings.outages),
        on_progress=on_progress,
    )
    return engines, record


def engines_of(run: SimulatedRun, sessions: Mapping[str, WorkloadSession]) -> Sequence[_Engine]:
    """The engines of a run, before it begins; its sessions by name."""
    settings = run.settings
    if settings.fluid:
        return _fluid_engines(run, sessions)
    names = BlockNames(settings, sessions)
    with TemporaryDirectory() as folder:
        profile = Path(folder) / "profile.json"
        run.profile.save(profile)
        one = engine_settings(run, profile)
        engines = [
            HeadlessEngine(one, ModelledDevice(run.profile, settings.link_bytes_per_second), names)
            for _ in range(settings.engines)
        ]
    if _knows_work(run):
        work = {name: session.output_tokens for name, session in sessions.items()}
        for engine in engines:
            know_work(engine.scheduler, work)
    return engines


def _fluid_engines(
    run: SimulatedRun, sessions: Mapping[str, WorkloadSession]
) -> Sequence[FluidEngine]:
    settings, is_stock = run.settings, _arm(run).is_stock
    one = FluidSettings(
        run.profile,
        kv_tokens=_kv_tokens(run),
        host_tokens=(
            0 if is_stock else settings.host_memory_bytes // run.profile.kv_bytes_per_token
        ),
        link_bytes_per_second=(settings.link_bytes_per_second or run.profile.link_bytes_per_second),
        max_num_seqs=settings.max_seqs,
        max_num_batched_tokens=settings.max_batched_tokens,
        pauses=not is_stock,
    )
    experience = Experience()
    return [FluidEngine(one, experience) for _ in range(settings.engines)]


def _arm(run: SimulatedRun) -> Arm:
    return arm(run.plan.policy)


def _in_place(run: SimulatedRun) -> bool:
    return not _arm(run).is_stock and run.settings.turns_as is TurnsAs.IN_PLACE


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


def _knows_work(run: SimulatedRun) -> bool:
    return _arm(run).policy == MinWaste.name and bool(
        run.settings.policy_options.get(KNOWN_WORK_OPTION)
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
            "keep_contexts": (
                KeepContexts.ALL if settings.turns_as is TurnsAs.UNNAMED else KeepContexts.AUTO
            ),
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
    run: SimulatedRun, record: FleetRecord, engines: Sequence[_Engine], cpu_seconds: float
) -> SimulatedOutcome:
    settings = run.settings
    window = ALL_ARRIVALS
    if settings.sessions is None:
        window = Window(settings.warmup_seconds, settings.horizon_seconds)
    # Rates are per engine, and so is what came of them.
    report = measure(
        replace(run.plan, rate=run.plan.rate * settings.engines),
        record,
        _counters(run, engines),
        Yardstick(
            ProfiledTimes(run.profile, settings.max_batched_tokens),
            settings.goal,
            settings.shared_prefix_tokens,
        ),
        arrivals=window,
        truncated_sessions=run.arrivals.truncated,
        dropped_sessions=run.arrivals.dropped,
    )
    if window is not ALL_ARRIVALS:
        report = replace(report, completed_per_second=completed_per_second(record, window))
    report = replace(
        report,
        rate=run.plan.rate,
        completed_per_second=_per_engine(report.completed_per_second, settings.engines),
        goodput_per_second=_per_engine(report.goodput_per_second, settings.engines),
    )
    returning_turns = sum(len(session.turns) - 1 for session in record.sessions if session.turns)
    computed = [engine.scheduled_tokens for engine in engines]
    figures = {field.name: getattr(report, field.name) for field in fields(RunReport)}
    return SimulatedOutcome(
        run.plan,
        _some_of(arrived_in(record, window)),
        SimulatedRunReport(
            **figures,
            simulated_seconds=record.finished_at - record.started_at,
            steps=sum(engine.steps for engine in engines),
            engines=settings.engines,
            router=settings.router,
            moved_turns_share=record.moved_turns / returning_turns if returning_turns else None,
            computed_tokens=EngineSpread(
                min(computed), sum(computed) / len(computed), max(computed)
            ),
            durations=tuple(engines[0].duration_rows()),
        ),
        cpu_seconds,
    )


def _some_of(record: ReplayRecord) -> ReplayRecord:
    """Every so-many-th session of very many: plots show no more, and they go to another process."""
    stride = -(-len(record.sessions) // _SESSIONS_SENT) or 1
    return replace(record, sessions=record.sessions[::stride])


def _per_engine(figure: float | None, engines: int) -> float | None:
    return None if figure is None else figure / engines


def _counters(run: SimulatedRun, engines: Sequence[_Engine]) -> EngineCounters:
    counts: dict[str, float] = defaultdict(float)
    for engine in engines:
        for name, count in engine.counts().items():
            counts[name] += count
    waste, scheduled = waste_of(counts), sum(engine.scheduled_tokens for engine in engines)
    if _arm(run).variant is Variant.VLLM_OFFLOADING:
        return EngineCounters(
            scheduled_tokens=scheduled,
            copied_tokens=sum(engine.stored_tokens for engine in engines),
            loaded_tokens=sum(engine.loaded_tokens for engine in engines),
            waste=waste,
        )
    if _arm(run).is_stock:
        return EngineCounters(scheduled_tokens=scheduled, waste=waste)
    return EngineCounters(
        scheduled_tokens=scheduled,
        held_tokens=int(counts.get("held_tokens", 0)),
        copied_tokens=int(counts.get("copied_tokens", 0)),
        loaded_tokens=int(counts.get("loaded_tokens", 0)),
        pauses=int(counts.get("pauses", 0)),
        waste=waste,
    )


def completed_per_second(record: ReplayRecord, window: Window) -> float:
    """Completions in the window, whenever the sessions arrived, over that time."""
    endings = [s.turns[-1].finished_at for s in record.sessions if s.turns]
    completed = sum(t is not None and window.since <= t < window.until for t in endings)
    return completed / (window.until - window.since)


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
