"""The channels of a layer laid out as tiles of one image."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import UsageError
from glasshouse.explanation.nouns import Activations, Floats


@dataclass(frozen=True)
class Grid:
    """All channels of one image as one image.

    tiles ``(rows, columns, h, w)`` in 0..1, NaN in places without a channel; dead ``(channels,)``
    says which channels are the same value everywhere. scale: the (low, high) that became 0 and 1,
    a pair a channel.
    """

    tiles: Floats
    dead: NDArray[np.bool_]
    scale: Floats


def channel_grid(
    layer: Activations, *, image: int = 0, columns: int | None = None, shared_scale: bool = False
) -> Grid:
    """Every channel of one image as a tile; the last row is filled up with nothing.

    columns: as square as possible unless given. shared_scale: one scale for all channels, which
    keeps weak channels weak; otherwise each channel has its own.
    """
    values = _require_maps(layer)[image]
    low, high = values.min((1, 2)), values.max((1, 2))
    # A flat layer's units are single values: those that give nothing are zero.
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
