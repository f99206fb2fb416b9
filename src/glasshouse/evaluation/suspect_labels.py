"""Images whose label may be wrong: those whose held-out prediction contradicts it most."""

from dataclasses import dataclass

import numpy as np

from glasshouse.models.predict import Predictions, probabilities


@dataclass(frozen=True)
class SuspectLabel:
    """An image, its label and the class predicted instead, with the probabilities of both."""

    id: str
    label: str
    suggested: str
    label_probability: float
    suggested_probability: float


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
