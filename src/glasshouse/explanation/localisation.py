"""Do maps point at the object? Scores against known masks, with the centre as a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import DataError
from glasshouse.explanation.record import Explanation, Floats, shown

Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Localisation:
    """How well one method finds the object, over all pictures; shares in 0..1.

    pointing: the largest value lies on the object. energy: the positive mass that does.
    """

    method: str
    pointing: float
    energy: float


def pointing_game(maps: Floats, masks: Masks, *, tolerance: int = 0) -> NDArray[np.bool_]:
    """Whether the largest value of each map lies on its mask ``(n,)`` (Zhang et al. 2016).

    A map without any positive value points nowhere. maps and masks ``(n, h, w)``. tolerance: how
    many pixels beside the mask still count, by rows or columns; 15 of 224 is usual.
    """
    _require_same_size(maps, masks)
    masks = _widened(masks, tolerance)
    flat = maps.reshape(len(maps), -1)
    largest = flat.argmax(1)
    hits = masks.reshape(len(masks), -1)[np.arange(len(maps)), largest]
    result: NDArray[np.bool_] = hits & (flat.max(1) > 0)
    return result


def energy_inside(maps: Floats, masks: Masks) -> NDArray[np.float64]:
    """The share of each map's positive mass that lies on its mask ``(n,)``; 0 for empty maps."""
    _require_same_size(maps, masks)
    positive = np.clip(maps.astype(np.float64), 0, None)
    total = positive.sum((1, 2))
    inside = (positive * masks).sum((1, 2))
    result: NDArray[np.float64] = np.divide(
        inside, total, out=np.zeros_like(total), where=total > 0
    )
    return result


def score_localisation(
    explanations: Sequence[Explanation], masks: Masks, *, tolerance: int = 0
) -> tuple[Localisation, ...]:
    """A row a method, then the centre of the picture, which needs no net."""
    rows = [(explanation.method, shown(explanation)) for explanation in explanations]
    rows.append(("centre", _centre_maps(masks)))
    return tuple(_row(method, maps, masks, tolerance) for method, maps in rows)


def _widened(masks: Masks, pixels: int) -> Masks:
    if not pixels:
        return masks
    side, margin = 2 * pixels + 1, (pixels, pixels)
    padded = np.pad(masks, ((0, 0), margin, margin))
    views = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (1, 2))
    return np.asarray(views.any((3, 4)))


def _row(method: str, maps: Floats, masks: Masks, tolerance: int) -> Localisation:
    pointing = float(pointing_game(maps, masks, tolerance=tolerance).mean())
    return Localisation(method, pointing, float(energy_inside(maps, masks).mean()))


def _centre_maps(masks: Masks) -> Floats:
    height, width = masks.shape[1:]
    y = np.abs(np.arange(height) - (height - 1) / 2)[:, None] / height
    x = np.abs(np.arange(width) - (width - 1) / 2)[None, :] / width
    one = np.exp(-8 * (x**2 + y**2))
    return np.broadcast_to(one, masks.shape)


def _require_same_size(maps: Floats, masks: Masks) -> None:
    if maps.shape != masks.shape:
        raise DataError(
            f"expected a mask of each map's size, got maps {maps.shape} and masks {masks.shape}; "
            "maps are brought to the picture's size by glasshouse.explanation.record.shown"
        )
