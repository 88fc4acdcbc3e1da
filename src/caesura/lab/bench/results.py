"""The runs of a comparison so far, and where they are shown and written."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from caesura.lab.bench.report import markdown_report, terminal_table, write_json
from caesura.lab.bench.settings import ComparisonSettings
from caesura.lab.bench.stats import RunOutcome, RunPlan, RunReport
from caesura.lab.machine import Machine


class Results:
    """Takes outcomes as they come, and keeps them in the order of the plan.

    Args:
        settings: what is run and where results go.
        plans: all runs.
        command: the command line, to stand beside the results.
        machine: what figures depend on.
        save_plots: draws the outcomes into a directory; gives the files.

    Attributes:
        machine: may be replaced while runs come in.
    """

    def __init__(
        self,
        settings: ComparisonSettings,
        plans: Sequence[RunPlan],
        command: str,
        machine: Machine,
        save_plots: Callable[[Sequence[RunOutcome], Path], list[Path]],
    ) -> None:
        self.machine = machine
        self._settings = settings
        self._command = command
        self._order = {plan: number for number, plan in enumerate(plans)}
        self._save_plots = save_plots
        self._outcomes: list[RunOutcome] = []

    @property
    def runs(self) -> list[RunReport]:
        """Figures of the runs so far."""
        return [outcome.report for outcome in self._outcomes]

    def add(self, outcome: RunOutcome) -> None:
        """Take a run; the JSON file is rewritten."""
        self._outcomes.append(outcome)
        self._outcomes.sort(key=lambda known: self._order[known.plan])
        if self._settings.json_path is not None:
            write_json(
                self._settings.json_path,
                command=self._command,
                machine=self.machine,
                runs=self.runs,
                settings=self._settings,
                planned_runs=len(self._order),
            )

    def publish(self, console: Console) -> None:
        """Show the table, and write report.md and plots, of whatever there is."""
        if not self._outcomes:
            return
        console.print(terminal_table(self.runs))
        if len(self._outcomes) < len(self._order):
            console.print(f"Partial: {len(self._outcomes)} of {len(self._order)} runs.")
        if self._settings.json_path is not None:
            console.print(f"Figures: {self._settings.json_path}")
        if self._settings.output_dir is not None:
            console.print(f"Report: {self._write_report(self._settings.output_dir)}")

    def _write_report(self, output_dir: Path) -> Path:
        images = self._save_plots(self._outcomes, output_dir)
        page = output_dir / "report.md"
        page.write_text(
            markdown_report(
                command=self._command,
                machine=self.machine,
                runs=self.runs,
                settings=self._settings,
                planned_runs=len(self._order),
                images=images,
            ),
            encoding="utf-8",
        )
        return page
