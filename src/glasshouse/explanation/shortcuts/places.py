"""Fixed places of an image where a shortcut may be, each with equal places to compare it with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

BORDER = "border"
# Shares of the shorter side: enough for a tag, a date or a frame, and little of the object.
_CORNER, _EDGE, _BORDER = 1 / 4, 1 / 6, 1 / 16


@dataclass(frozen=True)
class Place:
    """A part of the image in words, its pixels ``(h, w)``, and the names of equal places."""

    name: str
    mask: Mask
    controls: tuple[str, ...] = ()

    @property
    def area(self) -> float:
        """Its share of the image."""
        return float(self.mask.mean())


def fixed_places(height: int, width: int) -> tuple[Place, ...]:
    """The corners, the edges and the border; nothing equals the border but itself."""
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    side = min(height, width)
    corner, edge = max(2, round(side * _CORNER)), max(1, round(side * _EDGE))
    ends = {"top": rows < corner, "bottom": rows >= height - corner}
    sides = {"left": columns < corner, "right": columns >= width - corner}
    corners = {f"{end} {at} corner": ends[end] & sides[at] for end in ends for at in sides}
    edges = {
        "top edge": np.broadcast_to(rows < edge, (height, width)),
        "bottom edge": np.broadcast_to(rows >= height - edge, (height, width)),
        "left edge": np.broadcast_to(columns < edge, (height, width)),
        "right edge": np.broadcast_to(columns >= width - edge, (height, width)),
    }
    width_of_border = max(1, round(side * _BORDER))
    inside = np.zeros((height, width), dtype=bool)
    inside[width_of_border:-width_of_border, width_of_border:-width_of_border] = True
    found = [
        Place(name, mask, tuple(other for other in group if other != name))
        for group in (corners, edges)
        for name, mask in group.items()
    ]
    return (*found, Place(BORDER, ~inside))
