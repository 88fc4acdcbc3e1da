"""Bars of progress, as all commands show them."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from caesura.console import plain_console


def progress_bars(
    *before: ProgressColumn, detail: str | None = None, console: Console | None = None
) -> Progress:
    """What is done of how much, for how long, and the time that is left.

    Args:
        before: columns in front.
        detail: format of a last column, such as `{task.fields[detail]}`.
        console: where they are shown.
    """
    return Progress(
        *before,
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left", markup=False),
        TimeRemainingColumn(),
        *([] if detail is None else [TextColumn(detail, style="dim", markup=False)]),
        console=console or plain_console(),
    )
