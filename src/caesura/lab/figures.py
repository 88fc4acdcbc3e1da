"""What all plots have in common.

Colours are those of Okabe and Ito, which people with colour-blindness can tell apart.
"""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

BLACK, BLUE, VERMILION, GREEN = "#000000", "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY = "#CC79A7", "#E69F00", "#56B4E9"
COLOURS = (BLACK, BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
GREY, LIGHT_GREY = "#999999", "#DDDDDD"

_DOTS_PER_INCH = 150


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure, independent of any display."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def open_frame(axes: Axes) -> None:
    """Leave the frame open above and on the right."""
    axes.spines[["top", "right"]].set_visible(False)


def grid_lines(axes: Axes) -> None:
    """Thin lines behind the data, in an open frame."""
    axes.grid(True, which="both", alpha=0.25)
    open_frame(axes)


def plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis at 1, 2 and 5 of each decade, without powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def save_figures(figures: Mapping[str, Figure], output_dir: Path) -> list[Path]:
    """Write each as a PNG file of its name; returns the files."""
    output_dir.mkdir(parents=True, exist_ok=True)
    files = []
    for name, figure in figures.items():
        files.append(output_dir / f"{name}.png")
        figure.savefig(files[-1], dpi=_DOTS_PER_INCH)
    return files
