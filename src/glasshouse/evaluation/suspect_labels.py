"""Images whose labels may be wrong: those whose held-out prediction contradicts them most."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.models.predict import Predictions, probabilities


@dataclass(frozen=True)
class SuspectLabel:
    """An image, its label and the class predicted instead, with the probabilities of both."""

    id: str
    label: str
    suggested: str
    label_probability: float
    suggested_probability: float


@dataclass(frozen=True)
class SuspectPair:
    """A label that an image has and may not show, or lacks and may show.

    is_given: the image has the label. probability: of the label, as predicted.
    """

    id: str
    label: str
    is_given: bool
    probability: float


def suspect_labels(predictions: Predictions, *, limit: int = 100) -> tuple[SuspectLabel, ...]:
    """The labels that predictions contradict, by probability of the predicted class minus own.

    The predictions must come from classifiers that have not seen the image. The result is a
    ranking to review, not a verdict: it has hard images next to mislabelled ones.
    """
    shares = probabilities(predictions)
    rows = np.arange(len(predictions))
    own, best = shares[rows, predictions.labels], shares.argmax(axis=1)
    gap = shares[rows, best] - own
    order = [int(row) for row in np.argsort(-gap, kind="stable") if gap[row] > 0][:limit]
    return tuple(
        SuspectLabel(
            id=str(predictions.ids[row]),
            label=predictions.class_names[predictions.labels[row]],
            suggested=predictions.class_names[best[row]],
            label_probability=float(own[row]),
            suggested_probability=float(shares[row, best[row]]),
        )
        for row in order
    )


def suspect_pairs(predictions: Predictions, *, limit: int = 100) -> tuple[SuspectPair, ...]:
    """The same where images may have several labels: pairs of image and label.

    Confident learning, each label by itself (Northcutt et al. 2021): a label that is given is
    suspect when its absence is at least as probable as it is, on average, for images without the
    label, and one that is missing the other way round. Least probable answers come first.
    """
    truth, shares = predictions.label_matrix, predictions.probabilities
    own = np.where(truth, shares, 1 - shares)
    order = np.argsort(own, axis=None, kind="stable")
    suspects = np.stack(
        [_contradicted(truth[:, k], shares[:, k]) for k in range(truth.shape[1])], axis=1
    )
    chosen = order[suspects.ravel()[order]][:limit]
    return tuple(
        SuspectPair(
            id=str(predictions.ids[row]),
            label=predictions.class_names[label],
            is_given=bool(truth[row, label]),
            probability=float(shares[row, label]),
        )
        for row, label in zip(*np.unravel_index(chosen, truth.shape), strict=True)
    )


def _contradicted(has: NDArray[np.bool_], shares: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Images ``(n,)`` that confidently belong to the other side of one label."""
    if has.all() or not has.any():
        return np.zeros(len(has), dtype=np.bool_)
    is_present = shares >= shares[has].mean()
    is_absent = 1 - shares >= (1 - shares[~has]).mean()
    # An answer that reaches both averages counts for the more probable side.
    clear = np.where(is_present & is_absent, shares > 0.5, is_present)
    return np.asarray((is_present | is_absent) & (clear != has))
