"""One simulation of function calling from settings to files: `caesura simulate calls`."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace

from matplotlib.figure import Figure
from rich.console import Console

from caesura.engine.config import CaesuraConfig
from caesura.lab.bench.arm_engines import own_options
from caesura.lab.bench.arms import interleaved
from caesura.lab.bench.display import RunsDisplay
from caesura.lab.bench.function_calling.case_player import CasePlayer
from caesura.lab.bench.function_calling.cases import Case, CaseSuite
from caesura.lab.bench.function_calling.compare_modes import planned_cases
from caesura.lab.bench.function_calling.compare_policies import crowd, play_together
from caesura.lab.bench.function_calling.plans import CallTokens, ModeCase
from caesura.lab.bench.function_calling.records import CaseRun
from caesura.lab.bench.function_calling.report import grids
from caesura.lab.bench.function_calling.stage import Stage
from caesura.lab.bench.function_calling.styles import Style
from caesura.lab.bench.function_calling.suites import chosen_cases, load_suite
from caesura.lab.bench.results import Results
from caesura.lab.models.bench_model import bench_model_path
from caesura.lab.report import Grid, Page
from caesura.lab.results_file import Origin
from caesura.lab.sim.call_settings import CallSimulationSettings
from caesura.lab.sim.trap_rule import TrapRule
from caesura.lab.sim.virtual_time import run_virtually
from caesura.policy import DEFAULT_POLICY

_POLICIES = {TrapRule.name: f"{TrapRule.__module__}:{TrapRule.__name__}"}
"""Names of policies that only a simulation has."""


@dataclass(frozen=True, slots=True)
class SimulatedCase:
    """A run, and how long a token took in it."""

    run: CaseRun
    token_ms: float


def run_call_simulation(
    settings: CallSimulationSettings, *, command: str, console: Console | None = None
) -> Sequence[SimulatedCase]:
    """Compare modes at several speeds of decoding, show tables and write JSON.

    Args:
        settings: what to run and where results go.
        command: the command line, to stand beside the results.
        console: where progress and tables are shown.

    Raises:
        CaseError: the suite cannot be used.
    """
    suite = load_suite(settings)
    display = RunsDisplay(console)
    results = Results[SimulatedCase](settings, Origin(command), _Report(settings.suite))
    try:
        with display:
            for number, token_ms in enumerate(settings.token_ms):
                with display.run(number, len(settings.token_ms), f"{token_ms:g} ms per token"):
                    results.extend(_simulated(settings, suite, token_ms))
    finally:
        results.publish(display.console)
    return results.outcomes


def _simulated(
    settings: CallSimulationSettings, suite: CaseSuite, token_ms: float
) -> Iterator[SimulatedCase]:
    if settings.sessions is None:
        cases = chosen_cases(suite, settings.cases, settings.seed)
        playing = _modes(settings, cases, token_ms)
        yield from (SimulatedCase(run, token_ms) for run in run_virtually(playing))
        return
    for seed, policy in interleaved(settings.seeds, settings.policies):
        sessions = crowd(settings, suite, seed)
        for run in run_virtually(_crowd(settings, sessions, token_ms, policy)):
            yield SimulatedCase(replace(run, policy=policy, seed=seed), token_ms)


async def _modes(
    settings: CallSimulationSettings, cases: Sequence[Case], token_ms: float
) -> list[CaseRun]:
    cost = settings.request_ms / 1000
    runs = []
    async with _player(settings, token_ms, DEFAULT_POLICY) as player:
        for case in planned_cases(settings, cases):
            if case.style is Style.REQUESTS:
                played = await player.play_alone(_with_requests(case, cost))
                runs.append(_of_requests(played.run, cost))
            else:
                runs.append((await player.play_alone(case)).run)
    return runs


async def _crowd(
    settings: CallSimulationSettings, sessions: Sequence[ModeCase], token_ms: float, policy: str
) -> list[CaseRun]:
    async with _player(settings, token_ms, policy) as player:
        return [played.run for played in await play_together(player, sessions)]


@asynccontextmanager
async def _player(
    settings: CallSimulationSettings, token_ms: float, policy: str
) -> AsyncIterator[CasePlayer]:
    from caesura.lab.sim.vllm_planned_engine import PlannedEngine, VirtualTokenEngine

    config = CaesuraConfig.parse(
        {
            "policy": _POLICIES.get(policy, policy),
            "policy_options": own_options(_POLICIES.get(policy, policy), settings.policy_options),
            "host_memory": settings.host_memory_bytes,
        }
    )
    model = bench_model_path()
    engine = PlannedEngine(model, token_ms / 1000, settings.kv_tokens, config)
    tokens = VirtualTokenEngine(engine)
    stage = Stage(tokens, engine.codec, asyncio.get_running_loop().time)
    stepping = asyncio.create_task(tokens.run())
    try:
        yield CasePlayer(stage, CallTokens(model, engine.tokenizer.eos_token_id))
    finally:
        stepping.cancel()


def _with_requests(case: ModeCase, cost_seconds: float) -> ModeCase:
    """The case with a request behind each result."""
    calls = [replace(call, seconds=call.seconds + cost_seconds) for call in case.calls]
    return replace(case, calls=calls, style=Style.SYNC)


def _of_requests(run: CaseRun, cost_seconds: float) -> CaseRun:
    """The run with the first request, too; what requests cost is no execution, and no theory."""
    behind_results = run.calls * cost_seconds
    return replace(
        run,
        mode=Style.REQUESTS.value,
        latency_s=run.latency_s + cost_seconds,
        first_token_s=run.first_token_s + cost_seconds,
        execution_s=run.execution_s - behind_results,
        bound_s=run.bound_s - behind_results,
        cml_tokens=0,
    )


@dataclass(frozen=True, slots=True)
class _Report:
    """See `caesura.lab.bench.results.Report`."""

    suite: str

    def entries(self, outcomes: Sequence[SimulatedCase]) -> Mapping[str, object]:
        """The figures of all runs."""
        return {"runs": [{**asdict(one.run), "token_ms": one.token_ms} for one in outcomes]}

    def page(self, outcomes: Sequence[SimulatedCase]) -> Page:
        """Both tables of `caesura bench calls` for each time per token."""
        shown: list[Grid] = []
        for token_ms in dict.fromkeys(one.token_ms for one in outcomes):
            for grid in grids([one.run for one in outcomes if one.token_ms == token_ms]):
                first = f"{token_ms:g} ms per token"
                shown.append(replace(grid, headers=(first, *grid.headers[1:])))
        return Page(f"Function calling in virtual time: {self.suite}", (), shown)

    def figures(self, outcomes: Sequence[SimulatedCase]) -> Mapping[str, Figure]:
        """No plots."""
        return {}
