"""What a layer gives for an image: its channels, and which of them are dead."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import UsageError
from glasshouse.explanation.graph.layer_choice import find_call, module_of, require_layer
from glasshouse.explanation.graph.recording import record
from glasshouse.explanation.inputs import as_inputs
from glasshouse.models.classifier import Classifier

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Activations:
    """The output of one layer: ``(n, channels, h, w)``, or ``(n, units)`` of a flat layer."""

    layer: str
    values: Floats

    def _repr_png_(self) -> bytes:
        from glasshouse.explanation.draw.cells import to_png
        from glasshouse.explanation.draw.tiles import draw_activations

        return to_png(draw_activations(self))


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


def activations(
    classifier: Classifier, images: NDArray[np.uint8], layers: Sequence[str]
) -> tuple[Activations, ...]:
    """The outputs of the named layers, nested ones too, from one forward pass.

    A layer that runs several times has calls ``name:0``, ``name:1`` and so on; the plain name is
    the last. Raises UsageError with the nearest name for an unknown layer.
    """
    net = classifier.net
    for layer in layers:
        require_layer(net, layer)
    inputs = as_inputs(classifier, images)
    recording = record(net, inputs, keep={module_of(layer) for layer in layers})
    calls = [find_call(recording.calls, layer) for layer in layers]
    return tuple(
        Activations(layer, call.value.cpu().numpy())
        for layer, call in zip(layers, calls, strict=True)
        if call.value is not None
    )


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
