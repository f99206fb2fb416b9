"""Possible label errors of a source: as JSON, and as a gallery with the images."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import images_by_id
from glasshouse.evaluation.suspect_labels import (
    SuspectLabel,
    SuspectPair,
    suspect_labels,
    suspect_pairs,
)
from glasshouse.report.label_page import write_label_page
from glasshouse.storage import write_json
from glasshouse.workflow.compare.cross_validation import Folds

CANDIDATES, GALLERY_PAGE = "candidates.json", "label-errors.html"


def find_label_errors(folds: Folds, *, limit: int) -> Sequence[SuspectLabel | SuspectPair]:
    """What out-of-fold predictions contradict most; pairs where images may have several labels."""
    find = suspect_pairs if folds.predictions.is_multi_label else suspect_labels
    return find(folds.predictions, limit=limit)


def write_label_errors(
    suspects: Sequence[SuspectLabel | SuspectPair], folds: Folds, out: Path, *, source: str
) -> Path:
    """Write candidates.json and the gallery into a folder; no label is changed.

    Returns the path of the gallery.
    """
    write_json(out / CANDIDATES, [asdict(suspect) for suspect in suspects])
    write_label_page(
        suspects,
        _images({suspect.id for suspect in suspects}, folds),
        out / GALLERY_PAGE,
        source=source,
        image_count=len(folds.fold_of),
    )
    return out / GALLERY_PAGE


def _images(wanted: set[str], folds: Folds) -> dict[str, NDArray[np.uint8]]:
    return {
        name: image
        for images in folds.image_sets
        for name, image in images_by_id(images, wanted).items()
    }
