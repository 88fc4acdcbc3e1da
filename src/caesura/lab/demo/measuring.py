"""Measures what tokens cost on a machine, by short replays on an engine that serves nobody else."""

import statistics
from collections.abc import Awaitable, Callable, Sequence

from caesura.lab.bench.compare import prompts_for
from caesura.lab.bench.engines import RunningEngine
from caesura.lab.bench.presets import load_scaled
from caesura.lab.bench.replay import ReplayRecord, replay
from caesura.lab.bench.settings import BenchSettings
from caesura.lab.bench.workload import Segment, WorkloadSession
from caesura.lab.demo.saturation import MeasuredLoad, SessionWork, TokenCosts, saturating_rate

_SAMPLE_SESSIONS = 60  # all that the sample has
_PROMPTS = 8
_OUTPUT_TOKENS = 64
_ROUNDS = 4  # the first one warms up
_SEED = 2**32 - 1  # of tokens that no run has

Probe = Callable[[Sequence[WorkloadSession]], Awaitable[ReplayRecord]]
"""Runs sessions that all begin at once, with tokens that nobody has seen."""


async def measured_load(settings: BenchSettings, engine: RunningEngine) -> MeasuredLoad:
    """Measure an engine, and choose the rate for it.

    Raises:
        ReplayError: it did not generate what was asked.
    """
    seeds = iter(range(_SEED, 0, -1))

    async def probe(sessions: Sequence[WorkloadSession]) -> ReplayRecord:
        await engine.reset()
        seed = next(seeds)
        prompts = prompts_for(engine, settings, seed)
        arrivals = [0.0] * len(sessions)
        return await replay(engine.tokens, sessions, arrivals, prompts, label=f"probe{seed}")

    return await load_of(settings, engine.max_context_tokens, probe)


async def load_of(settings: BenchSettings, kv_tokens: int, probe: Probe) -> MeasuredLoad:
    """The rate for a workload on whatever runs the probes.

    Args:
        settings: the workload.
        kv_tokens: what device memory holds.
        probe: runs sessions.
    """
    work = SessionWork.of(
        load_scaled(
            settings.workload,
            _SAMPLE_SESSIONS,
            seed=0,
            tokens=settings.scale_tokens,
            pauses=settings.scale_pauses,
        )
    )
    prompts, outputs = prompt_probe(work), output_probe(work, kv_tokens)
    costs = TokenCosts(
        statistics.median([prompt_seconds(await probe(prompts)) for _ in range(_ROUNDS)][1:]),
        statistics.median([output_seconds(await probe(outputs)) for _ in range(_ROUNDS)][1:]),
    )
    return MeasuredLoad(work, costs, saturating_rate(work, costs), kv_tokens)


def prompt_probe(work: SessionWork) -> list[WorkloadSession]:
    """Prompts as long as the contexts that are lost, to be computed one after the other."""
    tokens = max(1, round(work.lost_tokens / work.resumptions))
    return _probe("prompt", _PROMPTS, Segment(tokens, 1))


def output_probe(work: SessionWork, kv_tokens: int) -> list[WorkloadSession]:
    """Sessions that generate side by side, as many as fit into memory."""
    tokens = max(1, round(work.context_tokens) - _OUTPUT_TOKENS // 2)
    segment = Segment(tokens, _OUTPUT_TOKENS)
    return _probe("output", work.side_by_side(kv_tokens), segment)


def prompt_seconds(record: ReplayRecord) -> float:
    """Time per token of `prompt_probe`."""
    tokens = sum(turn.append_tokens for session in record.sessions for turn in session.turns)
    return (record.finished_at - record.started_at) / tokens


def output_seconds(record: ReplayRecord) -> float:
    """Time per token of `output_probe`."""
    steps = [
        (turn.finished_at - turn.first_token_at) / (turn.output_tokens - 1)
        for session in record.sessions
        for turn in session.turns
        if turn.finished_at is not None and turn.first_token_at is not None
    ]
    return statistics.mean(steps) / len(record.sessions)


def _probe(kind: str, count: int, segment: Segment) -> list[WorkloadSession]:
    return [WorkloadSession(f"{kind}{number}", kind, (segment,)) for number in range(count)]
