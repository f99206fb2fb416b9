"""Images of activations: every channel of a layer as a tile."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glasshouse.errors import UsageError
from glasshouse.explanation.draw.canvas import new_figure
from glasshouse.explanation.draw.mosaic import channel_grid
from glasshouse.explanation.nouns import Activations, Floats


def draw_activations(
    layer: Activations,
    image: int = 0,
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
        image=image,
        columns=columns,
        shared_scale=shared_scale,
    )
    rows, wide, height, width = grid.tiles.shape
    side = min(1.2, 16 / max(rows, wide))
    figure = new_figure(max(3.0, wide * side), rows * side + 0.6)
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


def draw_channel(layer: Activations, channel: int, image: int = 0) -> Figure:
    """One channel of a layer in viridis, with a colour bar in the layer's own units.

    Raises UsageError for a channel that is not there.
    """
    count = layer.values.shape[1]
    if not 0 <= channel < count:
        raise UsageError(f"no channel {channel}: layer {layer.layer} has 0 to {count - 1}")
    figure = new_figure(4.2, 3.8)
    axes = figure.add_subplot(1, 1, 1)
    drawn = axes.imshow(layer.values[image, channel], cmap="viridis", interpolation="nearest")
    figure.colorbar(drawn, ax=axes, shrink=0.85)
    axes.set_title(f"{layer.layer}, channel {channel}", fontsize=9)
    axes.set_axis_off()
    return figure


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
