"""Pictures of explanations: matplotlib figures that touch no global state of it."""

import base64
import html
import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glasshouse.explanation.activations import Activations, channel_grid
from glasshouse.explanation.mistakes import Mistakes
from glasshouse.explanation.page import Page
from glasshouse.explanation.record import Explanation, Floats, shown, target_name

ColourMap = Literal["jet", "inferno", "viridis"]
SIGNED_COLOURS = "RdBu_r"
_VERDICTS = {"good": "\N{CHECK MARK}", "doubtful": "!", "note": "\N{BULLET}"}
_TILE = 2.6


def draw_explanation(
    explanation: Explanation, *, colours: ColourMap = "inferno", most: int = 8
) -> Figure:
    """The pictures in a row, and under each its map with a colour bar in units of the logit."""
    count = min(len(explanation), most)
    figure = _figure(count * _TILE, 2 * _TILE)
    maps = shown(explanation)
    for index in range(count):
        _picture(figure.add_subplot(2, count, index + 1), explanation.pictures[index])
        figure.axes[-1].set_title(_short(target_name(explanation, index)), fontsize=8)
        axes = figure.add_subplot(2, count, count + index + 1)
        _map(axes, explanation, maps[index], explanation.pictures[index], colours)
    figure.suptitle(_method_title(explanation), fontsize=10)
    return figure


def draw_sheet(
    page: Page, index: int = 0, *, colours: ColourMap = "jet", columns: int = 4
) -> Figure:
    """One picture's whole page: original, prediction, every map, and what the checks say."""
    explanations = page.explanations
    cells = 2 + len(explanations)
    rows = math.ceil(cells / columns)
    figure = _figure(columns * 3.3, rows * 4.1)
    first = figure.add_subplot(rows, columns, 1)
    _picture(first, page.pictures[index])
    first.set_title("original", fontsize=9)
    _prediction(figure.add_subplot(rows, columns, 2), page, index)
    for place, explanation in enumerate(explanations):
        axes = figure.add_subplot(rows, columns, place + 3)
        _map(axes, explanation, shown(explanation)[index], page.pictures[index], colours)
        axes.set_title(_method_title(explanation), fontsize=9)
        _words(axes, explanation)
    if explanations:
        figure.suptitle(f"Why {target_name(explanations[0], index)}?", fontsize=12)
    return figure


def draw_activations(
    layer: Activations,
    picture: int = 0,
    *,
    columns: int | None = None,
    shared_scale: bool = False,
    most: int | None = None,
) -> Figure:
    """Every channel as a tile in viridis; dead channels are crossed out.

    most: draw only the first so many channels, which the title says.
    """
    count = layer.values.shape[1]
    kept = count if most is None else min(most, count)
    grid = channel_grid(
        Activations(layer.layer, layer.values[:, :kept]),
        picture=picture,
        columns=columns,
        shared_scale=shared_scale,
    )
    rows, wide, height, width = grid.tiles.shape
    side = min(1.2, 16 / max(rows, wide))
    figure = _figure(max(3.0, wide * side), rows * side + 0.6)
    axes = figure.add_subplot(1, 1, 1)
    colours = matplotlib.colormaps["viridis"].with_extremes(bad="white")
    axes.imshow(_mosaic(grid.tiles), cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    for channel in np.flatnonzero(grid.dead):
        _cross_out(axes, divmod(int(channel), wide), (height, width))
    shown_of = f"{count} channels" if kept == count else f"the first {kept} of {count} channels"
    scale = "one scale" if shared_scale else "each its own scale"
    size = f"{height}x{width}, " if layer.values.ndim == 4 else ""
    dead = f", {int(grid.dead.sum())} dead (crossed)" if grid.dead.any() else ""
    axes.set_title(f"{layer.layer}: {shown_of}, {size}{scale}{dead}", fontsize=9)
    axes.set_axis_off()
    return figure


def draw_channel(layer: Activations, channel: int, picture: int = 0) -> Figure:
    """One channel of a layer in viridis, with a colour bar in the layer's own units."""
    figure = _figure(4.2, 3.8)
    axes = figure.add_subplot(1, 1, 1)
    image = axes.imshow(layer.values[picture, channel], cmap="viridis", interpolation="nearest")
    figure.colorbar(image, ax=axes, shrink=0.85)
    axes.set_title(f"{layer.layer}, channel {channel}", fontsize=9)
    axes.set_axis_off()
    return figure


def draw_strip(snapshots: Sequence[tuple[str, Explanation]], *, most: int = 6) -> Figure:
    """The same pictures' maps as training goes on: a row a picture, a column a snapshot.

    snapshots: a title, for example "epoch 3", and the explanation. A row has one colour scale.
    """
    first = snapshots[0][1]
    rows, columns = min(len(first), most), len(snapshots) + 1
    figure = _figure(columns * 1.6, rows * 1.6 + 0.4)
    all_maps = [shown(explanation) for _, explanation in snapshots]
    for row in range(rows):
        limit = max(float(np.abs(maps[row]).max()) for maps in all_maps) or 1.0
        _picture(figure.add_subplot(rows, columns, row * columns + 1), first.pictures[row])
        figure.axes[-1].set_title(_short(target_name(first, row), 16), fontsize=7)
        for column, (title, explanation) in enumerate(snapshots):
            axes = figure.add_subplot(rows, columns, row * columns + column + 2)
            _overlay(axes, all_maps[column][row], explanation.pictures[row], "inferno", limit)
            axes.set_title(title if row == 0 else "", fontsize=7)
    return figure


def draw_mistakes(mistakes: Mistakes, *, colours: ColourMap = "inferno") -> Figure:
    """A row a picture: original, why the predicted, why the true, why one rather than the other."""
    count = len(mistakes.ids)
    figure = _figure(4 * 2.7, count * 2.9 + 0.4)
    columns = (mistakes.predicted, mistakes.true, mistakes.contrast)
    for row in range(count):
        axes = figure.add_subplot(count, 4, row * 4 + 1)
        _picture(axes, mistakes.predicted.pictures[row])
        axes.set_title(_short(str(mistakes.ids[row]), 30, keep_end=True), fontsize=7)
        for column, explanation in enumerate(columns):
            axes = figure.add_subplot(count, 4, row * 4 + column + 2)
            picture = explanation.pictures[row]
            _map(axes, explanation, shown(explanation)[row], picture, colours)
            probability = f" ({mistakes.probabilities[row]:.0%})" if column == 0 else ""
            words = ("predicted: ", "true: ", "")[column] + target_name(explanation, row)
            axes.set_title(_short(words, 34) + probability, fontsize=7)
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


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _picture(axes: Axes, picture: NDArray[np.uint8]) -> None:
    axes.imshow(np.moveaxis(picture, 0, 2), interpolation="nearest")
    axes.set_axis_off()


def _map(
    axes: Axes,
    explanation: Explanation,
    values: Floats,
    picture: NDArray[np.uint8],
    colours: ColourMap,
) -> None:
    """A map in the way that suits it: over the photo, signed around zero, or bare."""
    figure: Any = axes.figure
    if explanation.layer is not None and explanation.channels is None:
        image = _overlay(axes, values, picture, colours, float(values.max()) or 1.0)
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
    bar = figure.colorbar(image, ax=axes, shrink=0.7)
    bar.ax.tick_params(labelsize=6)
    bar.formatter.set_powerlimits((-2, 3))
    bar.ax.yaxis.get_offset_text().set_fontsize(6)
    axes.set_axis_off()


def _overlay(
    axes: Axes, values: Floats, picture: NDArray[np.uint8], colours: str, limit: float
) -> Any:
    grey = np.moveaxis(picture, 0, 2).astype(np.float64).mean(2)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    return axes.imshow(values, cmap=colours, vmin=0, vmax=limit, alpha=0.55)


def _robust_limit(values: Floats) -> float:
    # A few single pixels would otherwise darken all the others.
    limit = float(np.percentile(np.abs(values), 99.5))
    return limit or float(np.abs(values).max()) or 1.0


def _prediction(axes: Axes, page: Page, index: int, most: int = 5) -> None:
    logits = page.logits[index].astype(np.float64) / page.temperature
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    order = shares.argsort()[::-1][:most]
    names = [_short(page.class_names[k] if page.class_names else str(k), 24) for k in order]
    axes.barh(range(len(order)), shares[order], height=0.35, color="#3b6ea5")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(order) - 0.4, -0.9)
    axes.set_yticks([])
    axes.tick_params(labelsize=7)
    for row, (name, share) in enumerate(zip(names, shares[order], strict=True)):
        axes.text(0.0, row - 0.22, f"{name}  {share:.1%}", fontsize=7, va="bottom")
    axes.set_title("prediction", fontsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _words(axes: Axes, explanation: Explanation, width: int = 46) -> None:
    sentences = [f"{_VERDICTS[check.verdict]} {check.words}" for check in explanation.checks]
    sentences += [f"! {warning}" for warning in explanation.warnings]
    lines = [line for sentence in sentences for line in textwrap.wrap(sentence, width)]
    axes.text(
        0, -0.03, "\n".join(lines), transform=axes.transAxes, fontsize=6.5, va="top", wrap=False
    )


def _mosaic(tiles: Floats) -> Floats:
    rows, columns, height, width = tiles.shape
    gap = 1 if max(height, width) < 64 else 2
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + gap), column * (width + gap)
            canvas[top : top + height, left : left + width] = tiles[row, column]
    return canvas


def _cross_out(axes: Axes, place: tuple[int, int], size: tuple[int, int]) -> None:
    height, width = size
    gap = 1 if max(height, width) < 64 else 2
    top, left = place[0] * (height + gap), place[1] * (width + gap)
    for ends in ((top, top + height - 1), (top + height - 1, top)):
        axes.plot([left, left + width - 1], ends, color="white", linewidth=0.8)


def _method_title(explanation: Explanation) -> str:
    return explanation.method + (f" at {explanation.layer}" if explanation.layer else "")


def _short(name: str, limit: int = 22, *, keep_end: bool = False) -> str:
    if len(name) <= limit:
        return name
    return "…" + name[1 - limit :] if keep_end else name[: limit - 1] + "…"
