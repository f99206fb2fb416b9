"""Which training images a photo resembles, by the features of the network just before its head."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.models.neighbours import nearest_rows
from glasshouse.workflow.use.known_images import KnownImages

SIMILAR = 5


@dataclass(frozen=True)
class Similar:
    """The training images nearest to one photo, nearest first.

    distances: Euclidean, between features of unit length, in 0..2.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    distances: tuple[float, ...]

    def as_json(self) -> list[dict[str, Any]]:
        """The same for a program, a record per image."""
        rows = zip(self.ids, self.labels, self.distances, strict=True)
        return [{"image": i, "label": name, "distance": round(d, 6)} for i, name, d in rows]


def similar_images(
    known: KnownImages, features: NDArray[np.float32], count: int = SIMILAR
) -> list[Similar]:
    """For each photo, by its features ``(n, d)``, the training images that it resembles most."""
    near = nearest_rows(known.features, features, count, known.squares)
    return [
        Similar(
            tuple(known.ids[rows].tolist()),
            tuple(known.labels[rows].tolist()),
            tuple(distances.tolist()),
        )
        for rows, distances in zip(near.rows, near.distances, strict=True)
    ]
