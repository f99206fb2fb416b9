"""Why a classifier is wrong: its mistakes, explained for the predicted against the true class."""

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet, take
from glasshouse.errors import DataError
from glasshouse.evaluation.metrics import (
    ConfusedPair,
    confused_pairs,
    mistake_positions,
    predicted_labels,
)
from glasshouse.explanation.explain import contrast, explain_page
from glasshouse.explanation.methods import MethodName
from glasshouse.explanation.nouns import Mistakes
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import Predictions, probabilities
from glasshouse.wording import pluralize

# A pair is strongly confused when at least this share of the true class, and more than one image,
# is predicted as the other. The most frequent few are always shown; the limit keeps the page short.
_STRONG, _FEW, _MOST = 0.05, 3, 12


def strongly_confused(predictions: Predictions) -> tuple[ConfusedPair, ...]:
    """The pairs where at least 5 % of the true class is predicted as the other; 3 to 12 of them.

    Fewer than 3 only if fewer pairs are confused at all.
    """
    chosen = [
        pair
        for rank, pair in enumerate(confused_pairs(predictions, len(predictions)))
        if rank < _FEW or (pair.count >= 2 and pair.share >= _STRONG)
    ]
    return tuple(chosen[:_MOST])


def explain_mistakes(
    classifier: Classifier,
    images: ImageSet,
    predictions: Predictions,
    *,
    count: int = 6,
    pairs: int | None = None,
    method: MethodName = "grad-cam",
) -> tuple[Mistakes, ...]:
    """The worst mistakes, then each strongly confused pair of classes, most confident first.

    count: at most this many images each. pairs: this many of the most frequent pairs instead of
    the strongly confused ones. Empty when nothing is misclassified. Raises DataError when the
    predictions are not of these images.
    """
    require_same_images(images, predictions)
    groups = {"The worst mistakes": mistake_positions(predictions)}
    strong = strongly_confused(predictions) if pairs is None else confused_pairs(predictions, pairs)
    for pair in strong:
        title = f"{pair.true} predicted as {pair.predicted} ({pluralize(pair.count, 'image')})"
        groups[title] = mistake_positions(predictions, pair)
    return tuple(
        _explained(title, classifier, images, (predictions, positions[:count], method))
        for title, positions in groups.items()
        if len(positions)
    )


def require_same_images(images: ImageSet, predictions: Predictions) -> None:
    """Raise DataError unless the predictions are of these images, in this order."""
    if not np.array_equal(images.ids, predictions.ids):
        raise DataError("expected the predictions of these images, got other ids; predict again")


def _explained(
    title: str,
    classifier: Classifier,
    images: ImageSet,
    what: tuple[Predictions, NDArray[np.int64], MethodName],
) -> Mistakes:
    predictions, positions, method = what
    wrong = take(images, positions)
    guesses = predicted_labels(predictions)[positions]
    shares = probabilities(predictions)[positions].max(1)
    pixels = wrong.pixels
    (predicted,) = explain_page(
        classifier, pixels, methods=[method], target_class=guesses
    ).explanations
    layer = predicted.layer
    (true,) = explain_page(
        classifier, pixels, methods=[method], target_class=wrong.labels, layer=layer
    ).explanations
    rather = contrast(
        classifier, pixels, target_class=guesses, against=wrong.labels, method=method, layer=layer
    )
    return Mistakes(title, wrong.ids, shares, predicted, true, rather)
