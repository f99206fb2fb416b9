"""Possible label errors of a source: as JSON, and as a gallery with the images."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import images_by_id
from glasshouse.evaluation.intervals import Interval
from glasshouse.evaluation.suspect_labels import (
    SuspectLabel,
    SuspectPair,
    suspect_labels,
    suspect_pairs,
)
from glasshouse.models.neighbours import unit_rows
from glasshouse.models.predict import Predictions
from glasshouse.report.label_page import write_label_page
from glasshouse.storage import write_json
from glasshouse.wording import percentage
from glasshouse.workflow.compare.cross_validation import Folds
from glasshouse.workflow.use.resembled_rows import near_tiles
from glasshouse.workflow.use.similar_images import Similar, similar_among

CANDIDATES, GALLERY_PAGE = "candidates.json", "label-errors.html"


def find_label_errors(folds: Folds, *, limit: int) -> Sequence[SuspectLabel | SuspectPair]:
    """What out-of-fold predictions contradict most; pairs where images may have several labels."""
    find = suspect_pairs if folds.predictions.is_multi_label else suspect_labels
    return find(folds.predictions, limit=limit)


def why_doubtful(predictions: Predictions, accuracy: Interval) -> str:
    """A sentence where predictions contradict labels without knowing better; else empty.

    accuracy: of these predictions; where an image may have several labels, nothing is said.
    """
    if predictions.is_multi_label:
        return ""
    commonest = np.bincount(predictions.labels).max() / len(predictions)
    if accuracy.low > commonest:
        return ""
    return (
        f"{percentage(accuracy.value)} of these predictions are right, and "
        f"{percentage(float(commonest))} would be by always predicting the most frequent class: "
        "within the confidence interval they are no better, and say little about labels. Use "
        "another backbone, or more images."
    )


def write_label_errors(
    suspects: Sequence[SuspectLabel | SuspectPair], folds: Folds, out: Path, *, source: str
) -> Path:
    """Write candidates.json and the gallery into a folder; no label is changed.

    Both name the images that each one resembles most, among all that were examined. Returns the
    path of the gallery.
    """
    similar = _similar(sorted({suspect.id for suspect in suspects}), folds)
    records = [
        {**asdict(suspect), "similar": similar[suspect.id].as_json()} for suspect in suspects
    ]
    write_json(out / CANDIDATES, records)
    images = _images({*similar, *(name for each in similar.values() for name in each.ids)}, folds)
    write_label_page(
        suspects,
        images,
        out / GALLERY_PAGE,
        source=source,
        image_count=len(folds.fold_of),
        near={name: near_tiles(each, images) for name, each in similar.items()},
        doubt=why_doubtful(folds.predictions, folds.score),
    )
    return out / GALLERY_PAGE


def _similar(ids: Sequence[str], folds: Folds) -> dict[str, Similar]:
    """The images that those with these ids resemble most, themselves left out."""
    if not ids:
        return {}
    known = unit_rows(folds.features).astype(np.float16)
    names = folds.predictions.ids
    labels = [images.label_text(row) for images in folds.image_sets for row in range(len(images))]
    place = {name: row for row, name in enumerate(names.tolist())}
    asked = known[[place[name] for name in ids]].astype(np.float32)
    found = similar_among(known, names, np.array(labels, dtype=np.str_), asked, own=ids)
    return dict(zip(ids, found, strict=True))


def _images(wanted: set[str], folds: Folds) -> dict[str, NDArray[np.uint8]]:
    return {
        name: image
        for images in folds.image_sets
        for name, image in images_by_id(images, wanted).items()
    }
