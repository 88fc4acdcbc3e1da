"""One benchmark of function calling from settings to files: `caesura bench calls`."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from rich.console import Console

from caesura.lab.bench.function_calling.compare import compare_modes
from caesura.lab.bench.function_calling.crowd import compare_policies, makespans
from caesura.lab.bench.function_calling.display import FunctionCallingDisplay
from caesura.lab.bench.function_calling.plots import save_plots
from caesura.lab.bench.function_calling.records import CaseRun, Played
from caesura.lab.bench.function_calling.report import (
    arm_table,
    comparison_table,
    markdown_report,
    write_json,
)
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings
from caesura.lab.bench.function_calling.suites import chosen_cases, load_suite
from caesura.lab.machine import this_machine


def run_function_calling(
    settings: FunctionCallingSettings, *, command: str, console: Console | None = None
) -> Sequence[CaseRun]:
    """Compare modes or policies, show tables and write JSON, plots and report.md.

    The JSON file is rewritten as runs come. However it ends, on Ctrl-C too, what was measured
    until then is shown and written, and the exception goes on to the caller.

    Args:
        settings: what to run and where results go.
        command: the command line, to stand beside the results.
        console: where progress and tables are shown.

    Returns:
        The figures of all runs.

    Raises:
        CaseError: the suite cannot be used.
        EngineStartError: an engine did not start.
        SessionError: an engine failed.
    """
    suite = load_suite(settings)
    display = FunctionCallingDisplay(console)
    results = _Results(settings, command, suite.skipped)
    try:
        with display:
            if settings.sessions is None:
                cases = chosen_cases(suite, settings.cases, settings.seed)
                comparison = compare_modes(settings, cases, results.add, display)
            else:
                comparison = compare_policies(settings, suite, results.add, display)
            asyncio.run(comparison)
    finally:
        results.publish(display.console)
    return results.runs


class _Results:
    """Takes runs as they come."""

    def __init__(
        self, settings: FunctionCallingSettings, command: str, skipped: Counter[str]
    ) -> None:
        self._settings = settings
        self._command = command
        self._skipped = skipped
        self._machine = this_machine()
        self._played: list[Played] = []

    @property
    def runs(self) -> list[CaseRun]:
        """Figures of the runs so far."""
        return [played.run for played in self._played]

    def add(self, played: Played) -> None:
        """Take a run."""
        self._played.append(played)
        if self._settings.json_path is not None:
            self._write_json()

    def publish(self, console: Console) -> None:
        """Show the tables, and write report.md and plots, of whatever there is."""
        if not self._played:
            return
        console.print(arm_table(self.runs))
        console.print(comparison_table(self.runs))
        for (policy, seed), seconds in makespans(self.runs).items():
            console.print(f"{policy}, seed {seed}: the last session was done after {seconds:.2f} s")
        wrong = [run for run in self.runs if not run.correct]
        if wrong:
            console.print(f"{len(wrong)} runs are not correct; they are in no figure.")
        for reason, count in self._skipped.items():
            console.print(f"{count} cases of the suite are not used: {reason}.")
        if self._settings.json_path is not None:
            console.print(f"Figures: {self._settings.json_path}")
        if self._settings.output_dir is not None:
            self._write_report(console)

    def _write_json(self) -> None:
        assert self._settings.json_path is not None
        write_json(
            self._settings.json_path,
            command=self._command,
            machine=self._machine,
            settings=self._settings,
            skipped=self._skipped,
            runs=self.runs,
        )

    def _write_report(self, console: Console) -> None:
        assert self._settings.output_dir is not None
        images = save_plots(self._played, self._settings.output_dir)
        page = self._settings.output_dir / "report.md"
        page.write_text(
            markdown_report(
                command=self._command,
                machine=self._machine,
                settings=self._settings,
                skipped=self._skipped,
                runs=self.runs,
                images=images,
            ),
            encoding="utf-8",
        )
        console.print(f"Report: {page}")
