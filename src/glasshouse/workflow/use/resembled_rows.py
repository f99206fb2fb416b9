"""What a report shows of the training images: those near a mistake, and what is unlike all."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet, Splits, images_by_id, take
from glasshouse.models.predict import Predictions
from glasshouse.report.html import tile
from glasshouse.report.near_tiles import NearTile, NearTiles
from glasshouse.report.unlike_section import UnlikeImages, UnlikeRow, unlike_text
from glasshouse.wording import p_words
from glasshouse.workflow.use.known_images import features_of
from glasshouse.workflow.use.photo_and_run import RunComparison
from glasshouse.workflow.use.similar_images import Similar, similar_images
from glasshouse.workflow.use.unknown_images import Familiarity, familiarity

_SHOWN = 8


def near_tiles(found: Similar, pixels: Mapping[str, NDArray[np.uint8]]) -> tuple[NearTile, ...]:
    """The nearest images as a page shows them; pixels: ``(3, h, w)`` of those there are, by id."""
    rows = zip(found.ids, found.labels, found.distances, strict=True)
    return tuple(
        NearTile(name, label, far, tile(pixels[name]))
        for name, label, far in rows
        if name in pixels  # features are kept longer than images may be
    )


def tiles_near(comparison: RunComparison, training: ImageSet, images: ImageSet) -> NearTiles:
    """For each image the training images that it resembles most, itself left out."""
    if not len(images):
        return {}
    preprocessing = comparison.classifier.preprocessing
    features = features_of(comparison.body, preprocessing, images.pixels)
    found = similar_images(comparison.known, features, own=images.ids.tolist())
    pixels = images_by_id(training, {name for each in found for name in each.ids})
    pairs = zip(images.ids.tolist(), found, strict=True)
    return {name: near_tiles(each, pixels) for name, each in pairs}


def unlike_images(
    comparison: RunComparison, splits: Splits, predictions: Predictions
) -> UnlikeImages | None:
    """The validation images that are most unlike the training images.

    predictions: of the validation split. None where a run was trained on that, or has none.
    """
    images, known = splits.validation, comparison.known
    if not len(images) or not len(known.usual["nearest"]):
        return None
    features = features_of(comparison.body, comparison.classifier.preprocessing, images.pixels)
    several = comparison.classifier.is_multi_label
    judged = _among_each_other(
        familiarity(known, images.pixels, features, predictions.logits, several=several)
    )
    is_right = (predictions.predicted_matrix == predictions.label_matrix).all(axis=1)
    is_unlike = np.array([each.is_unknown for each in judged])
    worst = sorted(range(len(judged)), key=lambda row: judged[row].as_unusual)[:_SHOWN]
    near = tiles_near(comparison, splits.train, take(images, worst))
    names = predictions.names
    rows = [
        UnlikeRow(
            id=str(images.ids[row]),
            true=images.label_text(row),
            predicted=names[row],
            is_right=bool(is_right[row]),
            words=_words(judged[row]),
            image=tile(images.pixels[row]),
            near=near[str(images.ids[row])],
        )
        for row in worst
    ]
    return UnlikeImages(unlike_text(is_unlike, is_right, can_tell=judged[0].can_tell), rows)


def _among_each_other(judged: Sequence[Familiarity]) -> list[Familiarity]:
    """Each compared with the others in place of all, of which it is one itself."""
    values = np.array([each.value for each in judged])
    usual = np.sort(values)
    others = len(values) - 1 - np.searchsorted(usual, values, side="left")
    return [
        Familiarity(each.score, each.value, int(count), len(values) - 1)
        for each, count in zip(judged, others, strict=True)
    ]


def _words(found: Familiarity) -> str:
    return "" if found.p_value is None else p_words(found.p_value)
