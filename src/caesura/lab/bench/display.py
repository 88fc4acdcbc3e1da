"""Progress of a comparison in the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import SpinnerColumn, TaskID

from caesura.lab.bench.replay import ReplayProgress
from caesura.lab.bench.stats import RunPlan
from caesura.lab.bench.workload import ClippedSessions
from caesura.lab.progress import progress_bars


class _Display:
    """Bars of progress, shown while it is entered; the first is that of all runs."""

    def __init__(self, console: Console | None, runs: int | None) -> None:
        self.console = console or Console()
        self._progress = progress_bars(
            SpinnerColumn(), detail="{task.fields[detail]}", console=self.console
        )
        self._runs = self._progress.add_task(
            "all runs", total=runs, visible=runs is not None, detail=""
        )

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

    def _update(self, task: TaskID, progress: ReplayProgress) -> None:
        self._progress.update(
            task,
            total=progress.sessions,
            completed=progress.finished,
            detail=f"{progress.started - progress.finished} open, {progress.output_tokens} tokens",
        )


class CompareDisplay(_Display):
    """Shows which run of how many is on, its sessions, the time elapsed and the time left.

    Use it as a context manager around a comparison.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console, None)

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
            self._update(task, progress)

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


class SimulationDisplay(_Display):
    """Shows how many simulated runs are done, and those that are on.

    Use it as a context manager around a simulation.
    """

    def __init__(self, runs: int, console: Console | None = None) -> None:
        super().__init__(console, runs)
        self._tasks: dict[RunPlan, TaskID] = {}

    def running(self, plan: RunPlan, progress: ReplayProgress) -> None:
        """A run has come so far."""
        if plan not in self._tasks:
            name = f"{plan.policy}, {plan.rate:g}/s, seed {plan.seed}"
            self._tasks[plan] = self._progress.add_task(name, total=None, detail="")
        self._update(self._tasks[plan], progress)

    def done(self, plan: RunPlan) -> None:
        """A run is over."""
        if plan in self._tasks:
            self._progress.remove_task(self._tasks.pop(plan))
        self._progress.advance(self._runs)
