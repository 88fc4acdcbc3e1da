"""What there is to say of figures: in the terminal, and as a Markdown page beside plots."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from caesura.lab.results_file import Origin

UNKNOWN = "–"


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows of cells under headers; the first column says what a row is of.

    Attributes:
        headers: of the columns; line breaks are for the terminal only, and a hyphen before one too.
        rows: of as many cells.
        notes: sentences below.
        breaks: numbers of the rows behind which a line is drawn in the terminal.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    breaks: frozenset[int] = frozenset()

    def for_terminal(self) -> Table:
        """As a table of rich."""
        table = Table(
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
            show_edge=False,
            caption="\n".join(self.notes) or None,
            caption_justify="left",
        )
        for number, header in enumerate(self.headers):
            table.add_column(header, justify="right" if number else "left", vertical="bottom")
        for number, row in enumerate(self.rows):
            table.add_row(*row, end_section=number in self.breaks)
        return table

    def as_markdown(self) -> str:
        """As a table of Markdown, with the notes as paragraphs."""
        headers = [" ".join(header.replace("-\n", "").split()) for header in self.headers]
        rules = ["---", *["---:"] * (len(headers) - 1)]
        lines = [f"| {' | '.join(line)} |" for line in (headers, rules, *self.rows)]
        notes = [note.replace("*", "\\*") for note in self.notes]
        return "\n\n".join(["\n".join(lines), *notes])


@dataclass(frozen=True, slots=True)
class Page:
    """All that is said of some runs.

    Attributes:
        title: of the page.
        introduction: paragraphs before the tables, on the page only.
        grids: the tables.
        remarks: sentences behind them.
    """

    title: str
    introduction: Sequence[str]
    grids: Sequence[Grid]
    remarks: Sequence[str] = ()

    def show(self, console: Console) -> None:
        """Print tables and remarks."""
        for grid in self.grids:
            console.print(grid.for_terminal())
        for remark in self.remarks:
            console.print(remark, highlight=False)

    def as_markdown(self, origin: Origin, images: Sequence[Path]) -> str:
        """The page with its command, its images, which lie beside it, and the machine."""
        machine = asdict(origin.machine)
        parts = [
            f"# {self.title}",
            f"```\n{origin.command}\n```",
            *self.introduction,
            *(grid.as_markdown() for grid in self.grids),
            *self.remarks,
            *(f"![{image.stem}]({image.name})" for image in images),
            "## Machine",
            "\n".join(
                f"* {name}: {UNKNOWN if value is None else value}"
                for name, value in (
                    *machine.items(),
                    ("commit", origin.commit),
                    ("version", origin.version),
                )
            ),
        ]
        return "\n\n".join(parts) + "\n"
