"""Images whose label may be wrong: those that heads which have not seen them contradict most."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.models.predict import probabilities
from glasshouse.report.label_page import Doubt, write_label_page
from glasshouse.storage import write_json
from glasshouse.workflow.compare.cross_validation import Folds


@dataclass(frozen=True)
class Candidate:
    """An image with its label and what the others of the set say; probabilities in 0..1."""

    id: str
    label: str
    suggested: str
    label_probability: float
    suggested_probability: float


def label_candidates(folds: Folds, *, limit: int = 100) -> tuple[Candidate, ...]:
    """The contradicted labels, the most contradicted first: suggested minus own probability.

    A ranking to look through, not a verdict: hard images stand in it beside mislabelled ones.
    """
    predictions = folds.predictions
    shares = probabilities(predictions)
    rows = np.arange(len(predictions))
    own, best = shares[rows, predictions.labels], shares.argmax(axis=1)
    gap = shares[rows, best] - own
    order = [int(row) for row in np.argsort(-gap, kind="stable") if gap[row] > 0][:limit]
    return tuple(
        Candidate(
            str(predictions.ids[row]),
            predictions.class_names[predictions.labels[row]],
            predictions.class_names[best[row]],
            float(own[row]),
            float(shares[row, best[row]]),
        )
        for row in order
    )


def write_candidates(
    candidates: tuple[Candidate, ...], folds: Folds, out: Path, *, source: str
) -> None:
    """Write candidates.json and the gallery label-errors.html into a folder; edits nothing."""
    images = _images(candidates, folds)
    doubts = [
        Doubt(
            c.id, c.label, c.suggested, c.label_probability, c.suggested_probability, images[c.id]
        )
        for c in candidates
    ]
    write_json(
        out / "candidates.json",
        [
            {
                "id": c.id,
                "label": c.label,
                "suggested": c.suggested,
                "label_probability": c.label_probability,
                "suggested_probability": c.suggested_probability,
            }
            for c in candidates
        ],
    )
    write_label_page(doubts, out / "label-errors.html", source=source, looked_at=len(folds.fold_of))


def _images(candidates: tuple[Candidate, ...], folds: Folds) -> dict[str, NDArray[np.uint8]]:
    wanted = {candidate.id for candidate in candidates}
    return {
        image: np.array(images.pixels[row])
        for images in folds.image_sets
        for row, image in enumerate(images.ids.tolist())
        if image in wanted
    }
