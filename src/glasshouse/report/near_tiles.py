"""The training images that an image resembles, next to it on a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from glasshouse.report.html import Tile


@dataclass(frozen=True)
class NearTile:
    """An image, its label, and how far its features are from those of another one, in 0..2."""

    id: str
    label: str
    distance: float
    image: Tile


# Those of several images, by the id of each.
NearTiles = Mapping[str, Sequence[NearTile]]
NOTHING_NEAR: NearTiles = MappingProxyType({})
