"""Progress in the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID

from caesura.lab.progress import progress_bars


class FunctionCallingDisplay:
    """Shows what starts and which run of how many is on. A context manager around a benchmark."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._progress = progress_bars(SpinnerColumn(), console=self.console)

    def __enter__(self) -> "FunctionCallingDisplay":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def activity(self, description: str) -> Iterator[None]:
        """While something goes on of which there is nothing to count."""
        task = self._progress.add_task(description, total=None)
        try:
            yield
        finally:
            self._progress.remove_task(task)

    @contextmanager
    def runs(self, description: str, total: int) -> Iterator["RunsDisplay"]:
        """While so many runs go on."""
        task = self._progress.add_task(description, total=total)
        try:
            yield RunsDisplay(self._progress, task)
        finally:
            self._progress.remove_task(task)


class RunsDisplay:
    """The bar of some runs."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def on(self, description: str) -> None:
        """What is run now."""
        self._progress.update(self._task, description=description)

    def done(self) -> None:
        """One more is over."""
        self._progress.advance(self._task)
