"""The style shared by all figures, for light and dark pages."""

from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from glasshouse.explanation.draw.fonts import can_matplotlib_shape, drawable
from glasshouse.report.encoding import figure_png

Place = Literal["best", "outside upper center", "outside lower center"]


@dataclass(frozen=True)
class Theme:
    """The colours of a figure, for a light or a dark page."""

    paper: str
    ink: str
    quiet: str
    grid: str
    blue: str
    orange: str


LIGHT = Theme("#ffffff", "#1d2430", "#5d6778", "#e3e7ee", "#0068b3", "#c8510a")
DARK = Theme("#171b22", "#e8ebf0", "#9aa5b5", "#2f3743", "#6cb8f5", "#f2a054")


def theme_of(dark: bool) -> Theme:
    """The colours for a dark or a light page."""
    return DARK if dark else LIGHT


class NotebookFigure(Figure):
    """A figure that a notebook shows whether or not pyplot has been imported, and never twice.

    Notebooks learn to draw figures when pyplot is imported, which nothing here does.
    """

    def _repr_png_(self) -> bytes:
        return figure_png(self, dpi=100)


def new_figure(width: float, height: float, theme: Theme) -> Figure:
    """An empty figure in the colours of a theme; width and height in inches."""
    return NotebookFigure((width, height), facecolor=theme.paper, layout="constrained")


def shorten_name(name: str, limit: int = 22) -> str:
    """A name in one line of at most this many characters, all of which can be drawn."""
    line = drawable(" ".join(name.split()), can_shape=can_matplotlib_shape())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def style(axes: Axes, theme: Theme) -> None:
    """A subdued grid and labels, and no frame except for the bottom line."""
    axes.set_facecolor(theme.paper)
    axes.grid(visible=True, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.quiet, labelsize=9, length=0)
    axes.xaxis.label.set_color(theme.quiet)
    axes.yaxis.label.set_color(theme.quiet)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.grid)


def percent_axis(axis: Axis) -> None:
    """Write the shares 0..1 of an axis as the texts do, "65 %", with no more digits than needed."""
    axis.set_major_formatter(lambda share, _: f"{round(100 * share, 6):g} %")


def legend(target: Axes | Figure, theme: Theme, place: Place, columns: int = 1) -> None:
    """A legend without a frame."""
    target.legend(
        loc=place, ncols=columns, frameon=False, fontsize=9, labelcolor=theme.ink, handlelength=1.6
    )
