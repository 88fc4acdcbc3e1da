"""Progress of benchmarks in the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import SpinnerColumn, TaskID

from caesura.console import plain_console
from caesura.lab.bench.replay import ReplayProgress
from caesura.lab.bench.stats import RunPlan
from caesura.lab.bench.workload import ClippedSessions
from caesura.lab.progress import progress_bars


class RunsDisplay:
    """Shows what goes on, and how many of all runs are done, while it is entered."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or plain_console()
        self._progress = progress_bars(
            SpinnerColumn(), detail="{task.fields[detail]}", console=self.console
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
    def activity(self, description: str) -> Iterator[None]:
        """While something goes on of which there is nothing to count."""
        with self._task(description):
            yield

    @contextmanager
    def run(self, number: int, runs: int, name: str) -> Iterator[Callable[[ReplayProgress], None]]:
        """While a run is on, the `number`-th (from 0) of `runs`; gives its progress callback."""
        self._progress.update(self._runs, total=runs, completed=number, visible=True)
        with self._task(f"run {number + 1} of {runs}: {name}") as task:
            yield lambda progress: self._show(task, progress)
            self._progress.update(self._runs, completed=number + 1)

    def clipped(self, seed: int, clipped: ClippedSessions, max_context_tokens: int) -> None:
        """Say which sessions did not fit the context length of the model."""
        self.console.print(
            f"seed {seed}: context is limited to {max_context_tokens} tokens: "
            f"{clipped.truncated} sessions truncated, {clipped.dropped} dropped, "
            f"{len(clipped.sessions)} remain",
            style="yellow",
        )

    @contextmanager
    def _task(self, description: str) -> Iterator[TaskID]:
        task = self._progress.add_task(description, total=None, detail="")
        try:
            yield task
        finally:
            self._progress.remove_task(task)

    def _show(self, task: TaskID, progress: ReplayProgress) -> None:
        self._progress.update(
            task,
            total=progress.sessions,
            completed=progress.finished,
            detail=f"{progress.started - progress.finished} open, {progress.output_tokens} tokens",
        )


class SimulationDisplay(RunsDisplay):
    """Shows runs that are on at the same time, too."""

    def __init__(self, runs: int, console: Console | None = None) -> None:
        super().__init__(console)
        self._progress.update(self._runs, total=runs, visible=True)
        self._tasks: dict[RunPlan, TaskID] = {}

    def running(self, plan: RunPlan, progress: ReplayProgress) -> None:
        """A run has come so far."""
        if plan not in self._tasks:
            self._tasks[plan] = self._progress.add_task(plan.name, total=None, detail="")
        self._show(self._tasks[plan], progress)

    def done(self, plan: RunPlan) -> None:
        """A run is over."""
        if plan in self._tasks:
            self._progress.remove_task(self._tasks.pop(plan))
        self._progress.advance(self._runs)
