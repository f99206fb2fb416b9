"""Activations as images: every channel of a layer as a tile, or one channel alone."""

import numpy as np
from PIL.Image import Image

from glasshouse.errors import UsageError
from glasshouse.explanation.draw.canvas import (
    BAR_WIDTH,
    TITLE,
    TITLE_HEIGHT,
    Canvas,
    wrap,
)
from glasshouse.explanation.draw.mosaic import Grid, channel_grid, crossed_out, mosaic
from glasshouse.explanation.draw.overlay import DEFAULT, RGB, ColourScale, Palette, coloured
from glasshouse.explanation.nouns import Activations

_MARGIN, _LARGEST_TILE, _LARGEST_SIDE, _SMALLEST_WIDTH = 10, 132, 1792, 420
_ALONE, _LINE = 352, 18


def draw_activations(
    layer: Activations,
    image: int = 0,
    *,
    columns: int | None = None,
    shared_scale: bool = False,
    most: int | None = None,
    palette: Palette = DEFAULT,
) -> Image:
    """Every channel as a tile; dead channels are crossed out.

    most: draw only this many channels, which the title says.
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
    tile = min(_LARGEST_TILE, _LARGEST_SIDE // max(rows, wide))
    factor = max(1, tile // max(height, width))
    pixels = _on_white(mosaic(grid, factor, palette))
    side = min(max(pixels.shape), _LARGEST_SIDE)
    scale = side / max(pixels.shape)
    tall, broad = (scale * length for length in pixels.shape[:2])
    title = _title(layer, grid, kept, shared_scale)
    canvas, top = _titled(title, max(_SMALLEST_WIDTH, broad + 2 * _MARGIN), tall)
    canvas.paste((_MARGIN, top), pixels, side)
    return canvas.image


def draw_channel(
    layer: Activations, channel: int, image: int = 0, *, palette: Palette = DEFAULT
) -> Image:
    """One channel of a layer with a colour bar in the layer's own units; crossed out if dead.

    Raises UsageError for a channel that does not exist.
    """
    count = layer.values.shape[1]
    if not 0 <= channel < count:
        raise UsageError(f"no channel {channel}: layer {layer.layer} has 0 to {count - 1}")
    values = layer.values[image, channel]
    low, high = float(values.min()), float(values.max())
    scale = ColourScale(low, high, palette)
    is_dead = low == high
    said = f": dead, {low:.3g} everywhere" if is_dead else ""
    title = f"{layer.layer}, channel {channel}{said}"
    canvas, top = _titled(title, _ALONE + BAR_WIDTH + 2 * _MARGIN, _ALONE)
    if is_dead:
        canvas.paste((_MARGIN, top), crossed_out(_ALONE, _ALONE), _ALONE)
        return canvas.image
    canvas.paste((_MARGIN, top), coloured(values, scale), _ALONE)
    canvas.colour_bar((_MARGIN + _ALONE + 8, top), scale, _ALONE)
    return canvas.image


def _titled(title: str, width: float, height: float) -> tuple[Canvas, float]:
    """A canvas with a title of as many lines as it needs, and where an image of a height begins."""
    lines = wrap(title, width - 2 * _MARGIN, TITLE)
    top = _MARGIN + TITLE_HEIGHT + (len(lines) - 1) * _LINE
    canvas = Canvas(width, top + height + _MARGIN)
    for number, line in enumerate(lines):
        canvas.write((_MARGIN, _MARGIN + number * _LINE), line, TITLE)
    return canvas, top


def _title(layer: Activations, grid: Grid, kept: int, shared_scale: bool) -> str:
    count = layer.values.shape[1]
    channels = f"{count} channels" if kept == count else f"the first {kept} of {count} channels"
    size = "x".join(map(str, layer.values.shape[2:]))
    scale = "one scale" if shared_scale else "each on its own scale"
    dead = int(grid.dead.sum())
    said = [channels, size, scale, f"{dead} dead (crossed out)" if dead else ""]
    return f"{layer.layer}: {', '.join(part for part in said if part)}"


def _on_white(pixels: RGB) -> RGB:
    opacity = pixels[..., 3:] / 255
    result: RGB = np.rint(pixels[..., :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return result
