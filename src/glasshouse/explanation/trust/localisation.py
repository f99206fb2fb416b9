"""Do maps locate the object? Scores against known masks, with the image centre as baseline."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import DataError
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.nouns import Explanation, Floats

Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Localisation:
    """How well one method locates the object, over all images; shares in 0..1.

    on_object: the largest value lies on the object. pointing: on it or within the margin, as in
    the published pointing game. energy: the share of positive mass on the object.
    """

    method: str
    on_object: float
    pointing: float
    energy: float


def usual_margin(height: int, width: int) -> float:
    """The pointing game's margin in pixels: 15 for a shorter side of 224, scaled in proportion."""
    return 15 / 224 * min(height, width)


def pointing_game(maps: Floats, masks: Masks, *, margin: float = 0) -> NDArray[np.bool_]:
    """Whether the largest value of each map lies on its mask ``(n,)`` (Zhang et al. 2016).

    maps and masks ``(n, h, w)``. margin: the Euclidean distance in pixels below which a miss still
    counts as a hit. A map without any positive value points nowhere.
    """
    _require_same_size(maps, masks)
    flat = maps.reshape(len(maps), -1)
    largest = np.unravel_index(flat.argmax(1), masks.shape[1:])
    distances = [
        _distance(mask, (row, column)) for mask, row, column in zip(masks, *largest, strict=True)
    ]
    hits = np.array(distances) < (margin or np.finfo(float).tiny)
    result: NDArray[np.bool_] = hits & (flat.max(1) > 0)
    return result


def energy_inside(maps: Floats, masks: Masks) -> NDArray[np.float64]:
    """The share of each map's positive mass on its mask ``(n,)``; 0 for empty maps."""
    _require_same_size(maps, masks)
    positive = np.clip(maps.astype(np.float64), 0, None)
    total = positive.sum((1, 2))
    inside = (positive * masks).sum((1, 2))
    result: NDArray[np.float64] = np.divide(
        inside, total, out=np.zeros_like(total), where=total > 0
    )
    return result


def score_localisation(
    explanations: Sequence[Explanation], masks: Masks, *, margin: float | None = None
) -> tuple[Localisation, ...]:
    """One row per method, then the image centre, a baseline that needs no network.

    margin: in pixels; unset: `usual_margin`.
    """
    rows = [(explanation.method, shown(explanation)) for explanation in explanations]
    rows.append(("centre", _centre_maps(masks)))
    near = usual_margin(*masks.shape[1:]) if margin is None else margin
    return tuple(_row(method, maps, masks, near) for method, maps in rows)


def _distance(mask: NDArray[np.bool_], point: tuple[int, int]) -> float:
    """Distance in pixels from a point to a mask; infinite for an empty mask."""
    places = np.argwhere(mask) - point
    return float(np.sqrt((places**2).sum(1).min())) if len(places) else np.inf


def _row(method: str, maps: Floats, masks: Masks, margin: float) -> Localisation:
    exact, near = (pointing_game(maps, masks, margin=each).mean() for each in (0, margin))
    return Localisation(method, float(exact), float(near), float(energy_inside(maps, masks).mean()))


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
            "maps are brought to the image's size by glasshouse.explanation.maps.enlargement.shown"
        )
