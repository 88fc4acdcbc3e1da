"""Servers side by side, from settings to files: what `caesura bench http` does."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack

from rich.console import Console

from caesura.lab.bench.arms import BASELINE
from caesura.lab.bench.compare import fit, plan_runs, prepare_workloads
from caesura.lab.bench.display import RunsDisplay
from caesura.lab.bench.engines import EngineCounters
from caesura.lab.bench.http.agents import Agent, TemplateTokens, measure_template, with_template
from caesura.lab.bench.http.server import ChatServer, wasted
from caesura.lab.bench.http.settings import HttpSettings
from caesura.lab.bench.http.words import WORDS, Texts
from caesura.lab.bench.replay import ReplayRecord, play_all
from caesura.lab.bench.results import Results
from caesura.lab.bench.run import comparison_results
from caesura.lab.bench.service import Yardstick
from caesura.lab.bench.stats import (
    RunOutcome,
    RunPlan,
    RunReport,
    Window,
    arrived_in,
    measure,
)
from caesura.lab.bench.unloaded import MeasuredTimes, measure_unloaded
from caesura.lab.bench.workload import ClippedSessions, WorkloadSession, poisson_arrivals

_MOST_CONTEXT_TOKENS = 32_768  # where no server says how much it takes


def run_http(
    settings: HttpSettings, *, command: str, console: Console | None = None
) -> Sequence[RunReport]:
    """Compare servers, show the tables and write JSON, plots and report.md, as `run_bench` does.

    Args:
        settings: what to run and where results go.
        command: the command line, to stand beside the results.
        console: where progress and the tables are shown.

    Returns:
        The figures of all runs.

    Raises:
        WorkloadError: the workload cannot be used.
        ReplayError: a server did not do what was asked.
        KeyboardInterrupt: it was stopped.
    """
    display = RunsDisplay(console)
    plans = plan_runs(settings.policies, settings.rates, settings.seeds)
    results = comparison_results(settings, command)

    async def run() -> None:
        workloads = prepare_workloads(settings)
        key = settings.api_key.get_secret_value() if settings.api_key is not None else None
        async with AsyncExitStack() as stack:
            servers = [
                await stack.enter_async_context(ChatServer(name, url, key))
                for name, url in zip(settings.policies, settings.base_urls, strict=True)
            ]
            await _Comparison(settings, servers, plans, display).run(workloads, results)

    try:
        with display:
            asyncio.run(run())
    finally:
        results.publish(display.console)
    return [outcome.report for outcome in results.outcomes]


class _Comparison:
    def __init__(
        self,
        settings: HttpSettings,
        servers: Sequence[ChatServer],
        plans: Sequence[RunPlan],
        display: RunsDisplay,
    ) -> None:
        self._settings = settings
        self._servers = {server.name: server for server in servers}
        self._plans = plans
        self._display = display
        self._templates: dict[str, TemplateTokens] = {}
        self._words: tuple[str, ...] = ()
        self._run_id = uuid.uuid4().hex[:8]  # servers may remember sessions of another comparison

    async def run(
        self, workloads: dict[int, list[WorkloadSession]], results: Results[RunOutcome]
    ) -> None:
        settings, display = self._settings, self._display
        with display.activity("looking at the servers"):
            await self._look()
        workloads = {
            seed: [with_template(spec, self._templates.values()) for spec in sessions]
            for seed, sessions in workloads.items()
        }
        fitted = fit(workloads, self._max_context_tokens(), display)
        first = self._servers.get(BASELINE, self._servers[settings.policies[0]])
        with display.activity(f"measuring single turns: {first.name}"):
            longest = max(s.context_tokens for w in fitted.values() for s in w.sessions)
            unloaded = await self._unloaded(first, longest)
        yardstick = Yardstick(unloaded, settings.goal)
        arrivals = Window(settings.warmup_seconds)
        for number, plan in enumerate(self._plans):
            workload, server = fitted[plan.seed], self._servers[plan.policy]
            await server.forget()
            before = await server.memory()
            record = await self._play(number, plan, workload)
            counters = EngineCounters(waste=wasted(before, await server.memory()))
            report = measure(
                plan,
                record,
                counters,
                yardstick,
                arrivals=arrivals,
                truncated_sessions=workload.truncated,
                dropped_sessions=workload.dropped,
            )
            results.add(RunOutcome(plan, arrived_in(record, arrivals), report))

    async def _look(self) -> None:
        for server in self._servers.values():
            await server.look(self._settings.model)
        common = [set(server.words) for server in self._servers.values()]
        shared = set.intersection(*common)
        self._words = tuple(sorted(shared)) or WORDS
        for server in self._servers.values():
            self._templates[server.name] = await measure_template(server, self._words)
            if not server.words:
                self._display.console.print(
                    f"{server.name} does not tokenize for its clients: its outputs may become "
                    "other tokens when they are sent back, and lengths are about right only; "
                    "contexts are an eighth shorter than it allows, so that all fit",
                    style="yellow",
                )

    def _max_context_tokens(self) -> int:
        asked = self._settings.max_context_tokens
        known = [server.max_context_tokens for server in self._servers.values()]
        limits = [limit for limit in (asked, *known) if limit is not None]
        longest = min(limits, default=_MOST_CONTEXT_TOKENS)
        counts_exactly = all(server.words for server in self._servers.values())
        return longest if counts_exactly else longest * 7 // 8

    async def _unloaded(self, server: ChatServer, max_context_tokens: int) -> MeasuredTimes:
        async def play(number: int, session: WorkloadSession) -> ReplayRecord:
            started = time.perf_counter()
            texts = Texts(self._words, "alone", self._settings.seeds)
            agent = self._agent(server, session, started, number, texts, f"alone-{number}")
            return await play_all([agent], started)

        return await measure_unloaded(play, max_context_tokens)

    async def _play(self, number: int, plan: RunPlan, workload: ClippedSessions) -> ReplayRecord:
        """All servers get the same texts, and no two rounds."""
        server, texts = self._servers[plan.policy], Texts(self._words, plan.seed, plan.rate)
        seconds = poisson_arrivals(len(workload.sessions), plan.rate, plan.seed)
        with self._display.run(number, len(self._plans), plan.name) as on_progress:
            started = time.perf_counter()
            agents = [
                self._agent(server, spec, started + arrival, index, texts, f"{number}-{index}")
                for index, (spec, arrival) in enumerate(
                    zip(workload.sessions, seconds, strict=True)
                )
            ]
            return await play_all(agents, started, self._settings.time_limit_seconds, on_progress)

    def _agent(
        self,
        server: ChatServer,
        spec: WorkloadSession,
        arrives_at: float,
        number: int,
        texts: Texts,
        name: str,
    ) -> Agent:
        session_id = f"bench-{self._run_id}-{name}" if self._settings.session_ids else None
        template = self._templates[server.name]
        return Agent(name, spec, arrives_at, server, number, texts, template, session_id)
