"""The channels of a layer as tiles of one image."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import UsageError
from glasshouse.explanation.draw.overlay import DEFAULT, RGB, ColourScale, Palette, coloured
from glasshouse.explanation.nouns import Activations, Floats

_DEAD, _CROSS = 224, 120


@dataclass(frozen=True)
class Grid:
    """All channels of one image as tiles.

    tiles ``(rows, columns, h, w)`` in 0..1, NaN where there is no channel. dead ``(channels,)``:
    which channels have the same value everywhere. scale ``(channels, 2)``: the values that became
    0 and 1.
    """

    tiles: Floats
    dead: NDArray[np.bool_]
    scale: Floats


def channel_grid(
    layer: Activations, *, image: int = 0, columns: int | None = None, shared_scale: bool = False
) -> Grid:
    """Every channel of one image as a tile; the last row is padded with NaN.

    columns: as square as possible unless given. shared_scale: one scale for all channels, which
    keeps weak channels weak; otherwise each channel has its own.
    """
    values = _require_maps(layer)[image]
    low, high = values.min((1, 2)), values.max((1, 2))
    # A unit of a flat layer is a single value: it is dead where that is zero.
    dead = (low == high) & ((low == 0) | (values[0].size > 1))
    if shared_scale:
        low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
    span = np.where(high > low, high - low, 1)
    scaled = (values - low[:, None, None]) / span[:, None, None]
    wide = columns or math.ceil(math.sqrt(len(values)))
    rows = math.ceil(len(values) / wide)
    tiles = np.full((rows * wide, *values.shape[1:]), np.nan, dtype=values.dtype)
    tiles[: len(values)] = scaled
    return Grid(tiles.reshape(rows, wide, *values.shape[1:]), dead, np.stack([low, high], 1))


def mosaic(grid: Grid, factor: int = 1, palette: Palette = DEFAULT) -> NDArray[np.uint8]:
    """The tiles as one image, RGBA ``(h, w, 4)``; gaps are transparent, dead channels crossed out.

    factor: pixels per value of a tile.
    """
    rows, columns, height, width = grid.tiles.shape
    # Row by row of values, so that each is coloured once and only then enlarged.
    values = grid.tiles.transpose(0, 2, 1, 3)
    pixels = np.empty((*values.shape, 4), dtype=np.uint8)
    flat = np.nan_to_num(values).reshape(-1, columns * width)
    colours = coloured(flat, ColourScale(0.0, 1.0, palette))
    pixels[..., :3] = colours.reshape(*values.shape, 3)
    pixels[..., 3] = np.where(np.isnan(values), 0, 255)
    large = pixels.repeat(factor, axis=1).repeat(factor, axis=3)
    gap = gap_between(grid, factor)
    tall, wide = height * factor + gap, width * factor + gap
    canvas = np.zeros((rows, tall, columns, wide, 4), dtype=np.uint8)
    canvas[:, :-gap, :, :-gap] = large
    for channel in np.flatnonzero(grid.dead).tolist():
        row, column = divmod(channel, columns)
        canvas[row, :-gap, column, :-gap, :3] = crossed_out(height * factor, width * factor)
    return canvas.reshape(rows * tall, columns * wide, 4)[:-gap, :-gap]


def crossed_out(height: int, width: int) -> RGB:
    """What stands for a dead channel ``(h, w, 3)``: a cross in grey, which no palette contains."""
    down, right = (np.arange(length) + 0.5 for length in (height, width))
    # The distance of each pixel's centre to both diagonals, along the rows.
    ahead = np.abs(down[:, None] / height - right[None, :] / width)
    back = np.abs(down[:, None] / height - 1 + right[None, :] / width)
    # Two pixels at least, so that the cross survives where tiles are drawn smaller. A
    # trace less, or rounding would decide about the pixels of a square that are one away.
    thickness = max(1.0, max(height, width) / 50) - 1e-6
    is_cross = np.minimum(ahead, back) * max(height, width) < thickness
    return np.where(is_cross[..., None], _CROSS, _DEAD).astype(np.uint8).repeat(3, axis=2)


def gap_between(grid: Grid, factor: int = 1) -> int:
    """Pixels between two tiles of a mosaic."""
    longer = int(max(grid.tiles.shape[2:]))
    return max(1, round(longer * factor / 24))


def _require_maps(layer: Activations) -> Floats:
    if layer.values.ndim == 4:
        return layer.values
    if layer.values.ndim == 2:
        # A flat layer is drawn as channels of one pixel.
        return layer.values[:, :, None, None]
    raise UsageError(
        f"the output of layer {layer.layer} is {layer.values.shape[1:]}: expected channels with "
        "rows and columns, or a flat row of units"
    )
