"""One comparison from settings to files: what `caesura bench` does."""

import asyncio
from collections.abc import Sequence

from rich.console import Console

from caesura.lab.bench.compare import compare, plan_runs, prepare_workloads, started_engines
from caesura.lab.bench.display import RunsDisplay
from caesura.lab.bench.engines import EngineFactory
from caesura.lab.bench.plots import run_figures
from caesura.lab.bench.report import ComparisonReport
from caesura.lab.bench.results import Results
from caesura.lab.bench.settings import BenchSettings, ComparisonSettings
from caesura.lab.bench.stats import RunOutcome, RunReport, place_in
from caesura.lab.bench.traces import engine_parts, traced
from caesura.lab.results_file import Origin


def run_bench(
    settings: BenchSettings,
    factory: EngineFactory,
    *,
    command: str,
    console: Console | None = None,
) -> Sequence[RunReport]:
    """Compare policies, show the table and write JSON, plots and report.md.

    The JSON file is rewritten after each run. However it ends, on Ctrl-C too, what was
    measured until then is shown and written, and the exception goes on to the caller.

    Args:
        settings: what to run and where results go.
        factory: starts the engine of a policy.
        command: the command line, to stand beside the results.
        console: where progress and the table are shown.

    Returns:
        The figures of all runs.

    Raises:
        WorkloadError: the workload cannot be used.
        ReplayError: an engine did not generate what was asked.
        KeyboardInterrupt: it was stopped.
    """
    display = RunsDisplay(console)
    plans = plan_runs(settings.policies, settings.rates, settings.seeds)
    results = comparison_results(settings, command)

    async def run() -> None:
        workloads = prepare_workloads(settings)
        async with started_engines(settings.policies, factory, display) as engines:
            await compare(settings, workloads, engines, on_outcome=results.add, display=display)

    try:
        with traced(settings, plans, engine_parts, display.console), display:
            asyncio.run(run())
    finally:
        results.publish(display.console)
    return [outcome.report for outcome in results.outcomes]


def comparison_results(settings: ComparisonSettings, command: str) -> Results[RunOutcome]:
    """Takes the runs of a comparison, and writes them where the settings say."""
    plans = plan_runs(settings.policies, settings.rates, settings.seeds)
    report = ComparisonReport(settings, len(plans), run_figures)
    return Results(settings, Origin(command), report, place_in(plans))
