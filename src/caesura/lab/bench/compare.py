"""Policies side by side: engines started once, runs interleaved."""

import contextlib
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import product

from caesura.lab.bench.arms import BASELINE, interleaved
from caesura.lab.bench.display import RunsDisplay
from caesura.lab.bench.engines import EngineFactory, RunningEngine
from caesura.lab.bench.presets import load_scaled
from caesura.lab.bench.prompts import Prompts
from caesura.lab.bench.replay import ReplayRecord, replay
from caesura.lab.bench.service import Yardstick
from caesura.lab.bench.settings import BenchSettings, DrawnSettings
from caesura.lab.bench.stats import RunOutcome, RunPlan, Window, arrived_in, measure
from caesura.lab.bench.unloaded import MeasuredTimes, measure_unloaded
from caesura.lab.bench.workload import (
    ClippedSessions,
    WorkloadError,
    WorkloadSession,
    clip_context,
    poisson_arrivals,
    scaled,
)

_WARM_UP_SESSIONS = 2
_WARM_UP_TURNS = 2


def plan_runs(
    policies: Sequence[str], rates: Sequence[float], seeds: Sequence[int]
) -> list[RunPlan]:
    """All runs in order: by seed, by rate, policies rotated by one in each round."""
    rounds = product(seeds, rates)
    return [RunPlan(policy, seed, rate) for (seed, rate), policy in interleaved(rounds, policies)]


def prepare_workloads(settings: DrawnSettings) -> dict[int, list[WorkloadSession]]:
    """The sessions of each seed, scaled, before any engine is started.

    Raises:
        WorkloadError: the workload cannot be used.
    """
    return {
        seed: load_scaled(
            settings.workload,
            settings.sessions,
            seed,
            tokens=settings.scale_tokens,
            pauses=settings.scale_pauses,
        )
        for seed in settings.seeds
    }


async def compare(
    settings: BenchSettings,
    workloads: Mapping[int, Sequence[WorkloadSession]],
    engines: Mapping[str, RunningEngine],
    *,
    on_outcome: Callable[[RunOutcome], None],
    display: RunsDisplay,
) -> None:
    """Run all policies at all rates with all seeds.

    Args:
        settings: what to run.
        workloads: the sessions of each seed, see `prepare_workloads`.
        engines: of all policies.
        on_outcome: called with each run when it is done.
        display: where progress is shown.

    Raises:
        WorkloadError: the workload cannot be used on these engines.
        ReplayError: an engine did not generate what was asked.
    """
    plans = plan_runs(settings.policies, settings.rates, settings.seeds)
    max_context_tokens = min(engine.max_context_tokens for engine in engines.values())
    fitted = fit(workloads, max_context_tokens, display)
    for policy, engine in engines.items():
        with display.activity(f"warming up: {policy}"):
            await _warm_up(engine, settings, fitted[settings.seeds[0]].sessions)
    alone = BASELINE if BASELINE in engines else settings.policies[0]
    with display.activity(f"measuring single turns: {alone}"):
        longest = max(s.context_tokens for w in fitted.values() for s in w.sessions)
        unloaded = await _unloaded(engines[alone], settings, longest)
    yardstick = Yardstick(unloaded, settings.goal, settings.shared_prefix_tokens)
    arrivals = Window(settings.warmup_seconds)
    for number, plan in enumerate(plans):
        with display.run(number, len(plans), plan.name) as on_progress:
            engine, workload = engines[plan.policy], fitted[plan.seed]
            await engine.reset()
            record = await replay(
                engine.tokens,
                workload.sessions,
                poisson_arrivals(len(workload.sessions), plan.rate, plan.seed),
                prompts_for(engine, settings, plan.seed),
                label=f"run{number}",
                time_limit_seconds=settings.time_limit_seconds,
                on_progress=on_progress,
            )
            report = measure(
                plan,
                record,
                await engine.counters(),
                yardstick,
                arrivals=arrivals,
                truncated_sessions=workload.truncated,
                dropped_sessions=workload.dropped,
            )
        on_outcome(RunOutcome(plan, arrived_in(record, arrivals), report))


@contextlib.asynccontextmanager
async def started_engines(
    policies: Sequence[str], factory: EngineFactory, display: RunsDisplay
) -> AsyncIterator[Mapping[str, RunningEngine]]:
    """Engines of all policies, started one after the other and shut down however this ends."""
    async with AsyncExitStack() as stack:
        engines: dict[str, RunningEngine] = {}
        for policy in policies:
            with display.activity(f"starting the engine: {policy}"):
                engines[policy] = await factory(policy)
            stack.push_async_callback(engines[policy].shutdown)
        yield engines


def fit(
    workloads: Mapping[int, Sequence[WorkloadSession]],
    max_context_tokens: int,
    display: RunsDisplay,
) -> dict[int, ClippedSessions]:
    """The sessions of each seed that fit all engines.

    Raises:
        WorkloadError: none does.
    """
    fitted = {}
    for seed, sessions in workloads.items():
        fitted[seed] = clipped = clip_context(sessions, max_context_tokens)
        if clipped.truncated or clipped.dropped:
            display.clipped(seed, clipped, max_context_tokens)
        if not clipped.sessions:
            raise WorkloadError(
                f"no session of the workload fits the {max_context_tokens} tokens of context "
                "that the model has; scale lengths down"
            )
    return fitted


async def _warm_up(
    engine: RunningEngine, settings: BenchSettings, sessions: Sequence[WorkloadSession]
) -> None:
    """A few turns that are not counted, with tokens that no run has."""
    short = [s.ending_after(_WARM_UP_TURNS) for s in sessions[:_WARM_UP_SESSIONS]]
    seed = zlib.crc32(f"warm-up {settings.seeds}".encode())
    await replay(
        engine.tokens,
        scaled(short, tokens=1, pauses=0),
        [0.0] * len(short),
        prompts_for(engine, settings, seed),
        label="warm-up",
        time_limit_seconds=settings.time_limit_seconds,
    )


async def _unloaded(
    engine: RunningEngine, settings: BenchSettings, max_context_tokens: int
) -> MeasuredTimes:
    """What turns take that run alone; the same is the yardstick of all policies."""
    first_seed = zlib.crc32(f"alone {settings.seeds}".encode())

    async def play(number: int, session: WorkloadSession) -> ReplayRecord:
        return await replay(
            engine.tokens,
            [session],
            [0.0],
            prompts_for(engine, settings, first_seed + number),
            label="alone",
        )

    return await measure_unloaded(play, max_context_tokens)


def prompts_for(engine: RunningEngine, settings: BenchSettings, seed: int) -> Prompts:
    """The tokens that sessions of this seed submit."""
    return Prompts(
        vocab_size=engine.vocab_size,
        seed=seed,
        reserved_token_ids=frozenset(settings.reserved_token_ids),
        shared_prefix_tokens=settings.shared_prefix_tokens,
    )
