"""Which training images a photo resembles, by the features of the network just before its head."""

from collections.abc import Sequence
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
    known: KnownImages,
    features: NDArray[np.float32],
    count: int = SIMILAR,
    *,
    own: Sequence[str] = (),
) -> list[Similar]:
    """For each photo, by its features ``(n, d)``, the training images that it resembles most.

    own: the ids of the photos, none of which resembles itself; empty where they are others.
    """
    return similar_among(
        known.features, known.ids, known.labels, features, count, squares=known.squares, own=own
    )


def similar_among(  # noqa: PLR0913 - the last two are optional
    known: NDArray[np.floating[Any]],
    ids: NDArray[np.str_],
    labels: NDArray[np.str_],
    features: NDArray[np.float32],
    count: int = SIMILAR,
    *,
    squares: NDArray[np.float32] | None = None,
    own: Sequence[str] = (),
) -> list[Similar]:
    """The same among images with known features ``(m, d)``, ids and labels ``(m,)``.

    squares: as nearest_rows takes them.
    """
    near = nearest_rows(known, features, count + bool(own), squares)
    found = []
    for place, rows in enumerate(near.rows):
        others = ids[rows] != own[place] if own else np.full(len(rows), True)
        kept = np.flatnonzero(others)[:count]
        found.append(
            Similar(
                tuple(ids[rows[kept]].tolist()),
                tuple(labels[rows[kept]].tolist()),
                tuple(near.distances[place][kept].tolist()),
            )
        )
    return found
