"""Why labels are wrongly marked or missed, where an image may have several."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet, take
from glasshouse.evaluation.multi_label import LabelError, wrong_labels
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.methods import MethodName
from glasshouse.explanation.mistakes import require_same_images
from glasshouse.explanation.nouns import Explanation
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import Predictions
from glasshouse.wording import pluralize

# Kinds of mistakes with a group of their own: the most frequent few, and those of at least this
# share of the images that have the label.
_STRONG, _FEW, _MOST = 0.05, 3, 12
# Of the labels that an image does have, this many are explained next to the mistaken one.
_OWN = 2


@dataclass(frozen=True)
class LabelMistakes:
    """Wrong answers on labels, the worst first, each with its image and maps.

    images ``(n)``, shares ``(n, k)``: of each error in turn, so that an image may occur twice.
    explanation: m maps, rows ``(m,)``: the error of each. The first map of an error is that of
    the mistaken label, those after it are of labels that the image has.
    """

    title: str
    errors: tuple[LabelError, ...]
    images: ImageSet
    shares: NDArray[np.float64]
    explanation: Explanation
    rows: NDArray[np.int64]


def explain_label_mistakes(
    classifier: Classifier,
    images: ImageSet,
    predictions: Predictions,
    *,
    count: int = 6,
    method: MethodName = "grad-cam",
) -> tuple[LabelMistakes, ...]:
    """The worst mistakes, then each label that is often wrongly marked or missed.

    count: at most this many errors each, those farthest from the label's threshold first. Empty
    where every label is right. Raises DataError when the predictions are not of these images.
    """
    require_same_images(images, predictions)
    errors = wrong_labels(predictions)
    kinds = Counter((error.label, error.is_missed) for error in errors)
    supports = dict(
        zip(predictions.class_names, predictions.label_matrix.sum(axis=0).tolist(), strict=True)
    )
    groups: dict[str, list[LabelError]] = {"The worst mistakes": errors}
    for rank, ((label, is_missed), number) in enumerate(kinds.most_common(_MOST)):
        if rank < _FEW or (number >= 2 and number >= _STRONG * supports[label]):
            what = "missed" if is_missed else "wrongly marked"
            title = f"{label} {what} ({pluralize(number, 'image')})"
            groups[title] = [e for e in errors if (e.label, e.is_missed) == (label, is_missed)]
    return tuple(
        _explained(title, classifier, images, (predictions, some[:count], method))
        for title, some in groups.items()
        if some
    )


def _explained(
    title: str,
    classifier: Classifier,
    images: ImageSet,
    what: tuple[Predictions, Sequence[LabelError], MethodName],
) -> LabelMistakes:
    predictions, errors, method = what
    row_of = {name: row for row, name in enumerate(predictions.ids.tolist())}
    places = np.array([row_of[error.id] for error in errors], dtype=np.int64)
    few = take(images, places)
    truth = predictions.label_matrix[places]
    pairs = []
    for row, error in enumerate(errors):
        mistaken = predictions.class_names.index(error.label)
        own = [k for k in np.flatnonzero(truth[row]).tolist() if k != mistaken]
        pairs += [(row, label) for label in (mistaken, *own[:_OWN])]
    rows, labels = (np.array(each, dtype=np.int64) for each in zip(*pairs, strict=True))
    page = explain_page(classifier, few.pixels[rows], methods=[method], target_class=labels)
    shares = predictions.probabilities[places]
    return LabelMistakes(title, tuple(errors), few, shares, page.explanations[0], rows)
