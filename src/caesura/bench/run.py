"""One comparison from settings to files: what `caesura bench` does."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from caesura.bench.compare import compare, plan_runs
from caesura.bench.display import CompareDisplay
from caesura.bench.engines import EngineFactory
from caesura.bench.machine import Machine, this_machine
from caesura.bench.plots import save_plots
from caesura.bench.report import markdown_report, terminal_table, write_json
from caesura.bench.settings import BenchSettings
from caesura.bench.stats import RunOutcome, RunReport


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
    display = CompareDisplay(console)
    results = _Results(settings, command, this_machine())
    try:
        with display:
            asyncio.run(compare(settings, factory, on_outcome=results.add, display=display))
    finally:
        results.publish(display.console)
    return results.runs


class _Results:
    """The runs so far, and where they are written."""

    def __init__(self, settings: BenchSettings, command: str, machine: Machine) -> None:
        self._settings = settings
        self._command = command
        self._machine = machine
        self._planned_runs = len(plan_runs(settings.policies, settings.rates, settings.seeds))
        self._outcomes: list[RunOutcome] = []

    @property
    def runs(self) -> list[RunReport]:
        return [outcome.report for outcome in self._outcomes]

    def add(self, outcome: RunOutcome) -> None:
        self._outcomes.append(outcome)
        if self._settings.json_path is not None:
            write_json(
                self._settings.json_path,
                command=self._command,
                machine=self._machine,
                runs=self.runs,
                settings=self._settings,
                planned_runs=self._planned_runs,
            )

    def publish(self, console: Console) -> None:
        if not self._outcomes:
            return
        console.print(terminal_table(self.runs))
        if len(self._outcomes) < self._planned_runs:
            console.print(f"Partial: {len(self._outcomes)} of {self._planned_runs} runs.")
        if self._settings.json_path is not None:
            console.print(f"Figures: {self._settings.json_path}")
        if self._settings.output_dir is not None:
            console.print(f"Report: {self._write_report(self._settings.output_dir)}")

    def _write_report(self, output_dir: Path) -> Path:
        images = save_plots(self._outcomes, output_dir)
        page = output_dir / "report.md"
        page.write_text(
            markdown_report(
                command=self._command,
                machine=self._machine,
                runs=self.runs,
                settings=self._settings,
                planned_runs=self._planned_runs,
                images=images,
            ),
            encoding="utf-8",
        )
        return page
