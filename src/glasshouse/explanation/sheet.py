"""Pictures of explanations: matplotlib figures that touch no global state of it."""

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

from glasshouse.explanation.mistakes import Mistakes
from glasshouse.explanation.record import Explanation, Floats, shown, target_name

ColourMap = Literal["jet", "inferno", "viridis"]
SIGNED_COLOURS = "RdBu_r"
_TILE = 2.6


def draw_explanation(
    explanation: Explanation, *, colours: ColourMap = "inferno", most: int = 8
) -> Figure:
    """The pictures in a row, and under each its map with a colour bar in units of the logit."""
    count = min(len(explanation), most)
    figure = new_figure(count * _TILE, 2 * _TILE)
    maps = shown(explanation)
    for index in range(count):
        draw_picture(figure.add_subplot(2, count, index + 1), explanation.pictures[index])
        figure.axes[-1].set_title(shorten(target_name(explanation, index)), fontsize=8)
        axes = figure.add_subplot(2, count, count + index + 1)
        draw_map(axes, explanation, maps[index], explanation.pictures[index], colours)
    figure.suptitle(method_title(explanation), fontsize=10)
    return figure


def draw_mistakes(mistakes: Mistakes, *, colours: ColourMap = "inferno") -> Figure:
    """A row a picture: original, why the predicted, why the true, why one rather than the other."""
    count = len(mistakes.ids)
    figure = new_figure(4 * 2.7, count * 2.9 + 0.4)
    columns = (mistakes.predicted, mistakes.true, mistakes.contrast)
    for row in range(count):
        axes = figure.add_subplot(count, 4, row * 4 + 1)
        draw_picture(axes, mistakes.predicted.pictures[row])
        axes.set_title(shorten(str(mistakes.ids[row]), 30, keep_end=True), fontsize=7)
        for column, explanation in enumerate(columns):
            axes = figure.add_subplot(count, 4, row * 4 + column + 2)
            picture = explanation.pictures[row]
            draw_map(axes, explanation, shown(explanation)[row], picture, colours)
            probability = f" ({mistakes.probabilities[row]:.0%})" if column == 0 else ""
            words = ("predicted: ", "true: ", "")[column] + target_name(explanation, row)
            axes.set_title(shorten(words, 34) + probability, fontsize=7)
    figure.suptitle(mistakes.title, fontsize=10)
    return figure


def to_png(figure: Figure, dots_per_inch: int = 110) -> bytes:
    """The figure as a PNG file; equal figures give equal bytes."""
    buffer = io.BytesIO()
    # matplotlib would write its own version into the file.
    figure.savefig(
        buffer,
        format="png",
        dpi=dots_per_inch,
        bbox_inches="tight",
        metadata={"Software": None},
    )
    return buffer.getvalue()


def to_html(png: bytes, sentences: Sequence[str]) -> str:
    """The picture and its sentences as HTML that loads nothing from elsewhere."""
    image = f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="explanation">'
    return image + "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that touches no global state."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_picture(axes: Axes, picture: NDArray[np.uint8]) -> None:
    """A picture ``(3, h, w)`` with its pixels as they are."""
    axes.imshow(np.moveaxis(picture, 0, 2), interpolation="nearest")
    axes.set_axis_off()


def draw_map(
    axes: Axes,
    explanation: Explanation,
    values: Floats,
    picture: NDArray[np.uint8],
    colours: str,
    bar: Axes | None = None,
) -> None:
    """A map in the way that suits it: over the photo, signed around zero, or bare.

    bar: where the colour bar goes; unset: beside the map, which gets smaller.
    """
    figure: Any = axes.figure
    if explanation.layer is not None and explanation.channels is None:
        image = draw_overlay(axes, values, picture, colours, float(np.abs(values).max()) or 1.0)
    else:
        limit = _robust_limit(values)
        is_signed = bool((values < 0).any())
        image = axes.imshow(
            values,
            cmap=SIGNED_COLOURS if is_signed else colours,
            vmin=-limit if is_signed else 0,
            vmax=limit,
            interpolation="nearest",
        )
    place = {"ax": axes, "shrink": 0.7} if bar is None else {"cax": bar}
    drawn = figure.colorbar(_opaque(image), **place)
    drawn.outline.set_visible(False)
    drawn.ax.tick_params(labelsize=6, length=2)
    drawn.formatter.set_powerlimits((-4, 5))
    drawn.ax.yaxis.get_offset_text().set_fontsize(6)
    axes.set_axis_off()


def draw_overlay(
    axes: Axes, values: Floats, picture: NDArray[np.uint8], colours: str, limit: float
) -> Any:
    """A map over the grey photo, which shows through where the map is weak.

    A map with negative values has two colours: one for the class, one against it.
    """
    grey = np.moveaxis(picture, 0, 2).astype(np.float64).mean(2)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    is_signed = bool((values < 0).any())
    strength = np.clip(np.abs(values) / limit, 0, 1).astype(np.float64)
    return axes.imshow(
        values,
        cmap=SIGNED_COLOURS if is_signed else colours,
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
