"""The runs of a benchmark so far, and where they are shown and written."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from matplotlib.figure import Figure
from rich.console import Console

from caesura.lab.bench.settings import SettingsOfRuns
from caesura.lab.figures import save_figures
from caesura.lab.report import Page
from caesura.lab.results_file import Origin, write_results

_Outcome = TypeVar("_Outcome")
_Run = TypeVar("_Run", contravariant=True)


class Report(Protocol[_Run]):
    """What a benchmark makes of its runs."""

    def entries(self, outcomes: Sequence[_Run]) -> Mapping[str, object]:
        """Entries of the file of figures."""
        ...

    def page(self, outcomes: Sequence[_Run]) -> Page:
        """What is said of them."""
        ...

    def figures(self, outcomes: Sequence[_Run]) -> Mapping[str, Figure]:
        """Plots by the names of their files."""
        ...


class Results(Generic[_Outcome]):
    """Takes outcomes as they come, and keeps them in order.

    Args:
        settings: what is run, and where results go.
        origin: what stands beside the results.
        report: what is made of them.
        place: the position of an outcome among all; None if they come in order.

    Attributes:
        origin: may be replaced while runs come in.
        outcomes: those so far.
    """

    def __init__(
        self,
        settings: SettingsOfRuns,
        origin: Origin,
        report: Report[_Outcome],
        place: Callable[[_Outcome], int] | None = None,
    ) -> None:
        self.origin = origin
        self.outcomes: list[_Outcome] = []
        self._settings = settings
        self._report = report
        self._place = place

    def add(self, outcome: _Outcome) -> None:
        """Take a run; the file of figures is replaced."""
        self.extend([outcome])

    def extend(self, outcomes: Iterable[_Outcome]) -> None:
        """Take runs that come together; the file of figures is replaced once."""
        self.outcomes += outcomes
        if self._place is not None:
            self.outcomes.sort(key=self._place)
        if self._settings.json_path is not None:
            entries = self._report.entries(self.outcomes)
            write_results(self._settings.json_path, self.origin, entries, self._settings)

    def publish(self, console: Console) -> None:
        """Show the tables, and write report.md and plots, of whatever there is."""
        if not self.outcomes:
            return
        page = self._report.page(self.outcomes)
        page.show(console)
        if self._settings.json_path is not None:
            console.print(f"Figures: {self._settings.json_path}")
        if self._settings.output_dir is not None:
            console.print(f"Report: {self._write_page(page, self._settings.output_dir)}")

    def _write_page(self, page: Page, output_dir: Path) -> Path:
        images = save_figures(self._report.figures(self.outcomes), output_dir)
        file = output_dir / "report.md"
        file.write_text(page.as_markdown(self.origin, images), encoding="utf-8")
        return file
