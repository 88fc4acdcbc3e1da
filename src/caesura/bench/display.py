"""Progress of a comparison in the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from caesura.bench.replay import ReplayProgress
from caesura.bench.stats import RunPlan
from caesura.bench.workload import ClippedSessions


class CompareDisplay:
    """Shows which run of how many is on, its sessions, the time elapsed and the time left.

    Use it as a context manager around a comparison.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", style="dim"),
            console=self.console,
        )
        self._runs = self._progress.add_task("all runs", total=None, visible=False, detail="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    @contextmanager
    def starting(self, policy: str) -> Iterator[None]:
        """While the engine of a policy starts."""
        with self._activity(f"starting the engine: {policy}"):
            yield

    @contextmanager
    def warming_up(self, policy: str) -> Iterator[None]:
        """While an engine warms up."""
        with self._activity(f"warming up: {policy}"):
            yield

    @contextmanager
    def running(
        self, number: int, runs: int, plan: RunPlan
    ) -> Iterator[Callable[[ReplayProgress], None]]:
        """While a run is on, the `number`-th (from 0) of `runs`; gives its progress callback."""
        self._progress.update(self._runs, total=runs, completed=number, visible=True)
        name = f"run {number + 1} of {runs}: {plan.policy}, {plan.rate:g}/s, seed {plan.seed}"
        task = self._progress.add_task(name, total=None, detail="")

        def update(progress: ReplayProgress) -> None:
            going_on = progress.started - progress.finished
            detail = f"{going_on} open, {progress.output_tokens} tokens"
            self._progress.update(
                task, total=progress.sessions, completed=progress.finished, detail=detail
            )

        try:
            yield update
            self._progress.update(self._runs, completed=number + 1)
        finally:
            self._progress.remove_task(task)

    def clipped(self, seed: int, clipped: ClippedSessions, max_context_tokens: int) -> None:
        """Say which sessions did not fit the context length of the model."""
        self.console.print(
            f"seed {seed}: context is limited to {max_context_tokens} tokens: "
            f"{clipped.truncated} sessions truncated, {clipped.dropped} dropped, "
            f"{len(clipped.sessions)} remain",
            style="yellow",
        )

    @contextmanager
    def _activity(self, description: str) -> Iterator[None]:
        task = self._progress.add_task(description, total=None, detail="")
        try:
            yield
        finally:
            self._progress.remove_task(task)
