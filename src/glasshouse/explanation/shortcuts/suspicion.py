"""Suspicion: how much of the explanation maps is at fixed places, or outside the object."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet
from glasshouse.errors import ModelError, UsageError
from glasshouse.evaluation.intervals import Interval
from glasshouse.evaluation.paired_effects import mean_interval
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.methods import MethodName
from glasshouse.explanation.shortcuts.places import Place
from glasshouse.models.classifier import Classifier

OUTSIDE = "outside the object"
_METHOD: MethodName = "grad-cam"
# Maps are made in parts, so that those of thousands of images never fill the memory.
_PART = 256


@dataclass(frozen=True)
class MapShare:
    """The mean share of the maps at a place, with its interval, and the share of its area.

    class_name: of which images; empty for all.
    """

    place: str
    class_name: str
    share: Interval
    area: float
    image_count: int

    @property
    def is_suspicious(self) -> bool:
        """Whether the place has at least twice as much of the maps as of the area."""
        return self.share.low > 2 * self.area


def map_shares(
    classifier: Classifier, images: ImageSet, places: Sequence[Place]
) -> tuple[MapShare, ...]:
    """Shares of the positive part of Grad-CAM maps of the true class, for all and per class.

    Empty for a network that no map can be made of.
    """
    try:
        parts = [
            _shares(classifier, images, slice(start, start + _PART), places)
            for start in range(0, len(images), _PART)
        ]
    except (ModelError, UsageError):
        return ()
    shares = np.concatenate(parts)
    areas = [place.area for place in places]
    names = [place.name for place in places]
    if images.masks is not None:
        names, areas = [*names, OUTSIDE], [*areas, float((~images.masks).mean())]
    groups = {"": np.ones(len(images), dtype=bool)}
    groups |= {name: images.labels == label for label, name in enumerate(images.class_names)}
    known = np.isfinite(shares[:, 0])
    return tuple(
        MapShare(
            name,
            group,
            mean_interval(shares[own & known, column]).within(0, 1),
            area,
            int(own.sum()),
        )
        for group, own in groups.items()
        if (own & known).sum() > 1
        for column, (name, area) in enumerate(zip(names, areas, strict=True))
    )


def _shares(
    classifier: Classifier, images: ImageSet, part: slice, places: Sequence[Place]
) -> NDArray[np.float64]:
    """The share of each map at each place ``(n, places)``; NaN where a map is empty."""
    page = explain_page(
        classifier, images.pixels[part], methods=_METHOD, target_class=images.labels[part]
    )
    maps = np.clip(shown(page.explanations[0]).astype(np.float64), 0, None)
    total = maps.sum(axis=(1, 2))
    columns = [maps[:, place.mask].sum(axis=1) for place in places]
    if images.masks is not None:
        columns.append((maps * ~images.masks[part]).sum(axis=(1, 2)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack(columns, axis=1) / np.where(total > 0, total, np.nan)[:, None]
