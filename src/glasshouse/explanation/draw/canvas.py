"""Images of explanations: matplotlib figures that touch no global state of it."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glasshouse.explanation.nouns import Explanation, Floats

ColourMap = Literal["jet", "inferno", "viridis"]
SIGNED_COLOURS = "RdBu_r"
# Inches: a title's height, an image's side, a colour bar's width, and what a cell takes with them.
TITLE, SIDE, BAR = 0.26, 2.3, 0.09
CELL, ROW = SIDE + 0.6, TITLE + SIDE + 0.12


def to_png(figure: Figure, dots_per_inch: int = 110) -> bytes:
    """The figure as a PNG file; equal figures give equal bytes."""
    buffer = io.BytesIO()
    # What was placed by hand needs no second drawing to find its bounds. matplotlib would write its
    # own version into the file.
    bounds = "tight" if figure.get_layout_engine() is not None else None
    figure.savefig(
        buffer,
        format="png",
        dpi=dots_per_inch,
        bbox_inches=bounds,
        metadata={"Software": None},
    )
    return buffer.getvalue()


def to_html(png: bytes, sentences: Sequence[str]) -> str:
    """The image and its sentences as HTML that loads nothing from elsewhere."""
    image = f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="explanation">'
    return image + "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that touches no global state and arranges itself."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain_figure(width: float, height: float) -> Figure:
    """One whose parts are placed by hand, which is many times faster where there are many."""
    figure = Figure(figsize=(width, height), dpi=110)
    FigureCanvasAgg(figure)
    return figure


def add_cell(
    figure: Figure, left: float, top: float, *, side: float = SIDE, has_bar: bool = False
) -> tuple[Axes, Axes | None]:
    """Axes for an image and for its colour bar, under a title.

    left, top: the upper left corner in inches from the lower left of the figure.
    """
    wide, tall = figure.get_size_inches()
    low = top - TITLE - side
    axes = figure.add_axes((left / wide, low / tall, side / wide, side / tall))
    axes.set_axis_off()
    if not has_bar:
        return axes, None
    right, inset = left + side + 0.06, 0.15 * side
    box = (right / wide, (low + inset) / tall, BAR / wide, (side - 2 * inset) / tall)
    return axes, figure.add_axes(box)


def set_title(axes: Axes, text: str) -> None:
    """A title over the left edge."""
    axes.set_title(text, fontsize=8.5, loc="left", pad=4)


def write(
    figure: Figure,
    place: tuple[float, float],
    text: str,
    *,
    size: float = 7,
    colour: str = "#222222",
) -> None:
    """Text whose upper left corner is at this place, in inches from the lower left."""
    wide, tall = figure.get_size_inches()
    figure.text(place[0] / wide, place[1] / tall, text, fontsize=size, va="top", color=colour)


def draw_image(axes: Axes, image: NDArray[np.uint8]) -> None:
    """An image ``(3, h, w)`` with its pixels as they are."""
    axes.imshow(np.moveaxis(image, 0, 2), interpolation="nearest")
    axes.set_axis_off()


def draw_map(
    axes: Axes,
    explanation: Explanation,
    values: Floats,
    image: NDArray[np.uint8],
    colours: str,
    bar: Axes | None = None,
) -> None:
    """A map in the way that suits it: over the photo, signed around zero, or bare.

    bar: where the colour bar goes; unset: beside the map, which gets smaller.
    """
    figure: Any = axes.figure
    is_signed = explanation.against is not None or bool((values < 0).any())
    colours = SIGNED_COLOURS if is_signed else colours
    if explanation.layer is not None and explanation.channels is None:
        drawn_map = draw_overlay(axes, values, image, colours, float(np.abs(values).max()) or 1.0)
    else:
        limit = _robust_limit(values)
        drawn_map = axes.imshow(
            values,
            cmap=colours,
            vmin=-limit if is_signed else 0,
            vmax=limit,
            interpolation="nearest",
        )
    place = {"ax": axes, "shrink": 0.7} if bar is None else {"cax": bar}
    drawn = figure.colorbar(_opaque(drawn_map), **place)
    drawn.outline.set_visible(False)
    drawn.ax.tick_params(labelsize=6, length=2)
    drawn.formatter.set_powerlimits((-4, 5))
    drawn.ax.yaxis.get_offset_text().set_fontsize(6)
    axes.set_axis_off()


def draw_overlay(
    axes: Axes, values: Floats, image: NDArray[np.uint8], colours: str, limit: float
) -> Any:
    """A map over the grey photo, which shows through where the map is weak.

    In the signed colours, one stands for the class and one against it.
    """
    grey = np.moveaxis(image, 0, 2).astype(np.float64).mean(2)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    is_signed = colours == SIGNED_COLOURS
    strength = np.clip(np.abs(values) / limit, 0, 1).astype(np.float64)
    return axes.imshow(
        values,
        cmap=colours,
        vmin=-limit if is_signed else 0,
        vmax=limit,
        alpha=0.8 * strength if is_signed else 0.25 + 0.4 * strength,
    )


def _opaque(image: Any) -> ScalarMappable:
    """The colours of an image without its transparency, for the bar beside it."""
    return ScalarMappable(norm=image.norm, cmap=image.cmap)


def _robust_limit(values: Floats) -> float:
    # A few single pixels would otherwise darken all the others.
    limit = float(np.percentile(np.abs(values), 99.5))
    return limit or float(np.abs(values).max()) or 1.0


def method_title(explanation: Explanation) -> str:
    """The method and, for a class activation map, its layer."""
    return explanation.method + (f" at {explanation.layer}" if explanation.layer else "")


def shorten(name: str, limit: int = 22, *, keep_end: bool = False) -> str:
    """A name of at most so many letters, with an ellipsis for what was left out."""
    if len(name) <= limit:
        return name
    return "…" + name[1 - limit :] if keep_end else name[: limit - 1] + "…"
