"""Why a net is wrong: its worst mistakes and most confused pairs, predicted against true class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet, take
from glasshouse.errors import DataError
from glasshouse.explanation.explain import contrast, explain_page
from glasshouse.explanation.methods import MethodName
from glasshouse.explanation.nouns import Mistakes
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import Predictions, probabilities
from glasshouse.wording import pluralize

# A pair is strongly confused when so large a share of its class, and more than one image, is
# taken for the other. The most frequent few are shown also where none is, and never more than most.
_STRONG, _FEW, _MOST = 0.05, 3, 12


@dataclass(frozen=True)
class ConfusedPair:
    """A true and a predicted class, and the positions of the images, most certain first."""

    true: int
    predicted: int
    positions: tuple[int, ...]


def worst_mistakes(predictions: Predictions, count: int) -> NDArray[np.int64]:
    """Positions of the wrong predictions, the most certain first."""
    certain = probabilities(predictions)
    predicted = certain.argmax(1)
    wrong = np.flatnonzero(predicted != predictions.labels)
    order = np.argsort(-certain[wrong, predicted[wrong]], kind="stable")
    result: NDArray[np.int64] = wrong[order][:count].astype(np.int64)
    return result


def confused_pairs(predictions: Predictions, count: int) -> tuple[ConfusedPair, ...]:
    """The pairs of classes that are most often taken for one another, most frequent first."""
    wrong = worst_mistakes(predictions, len(predictions))
    predicted = predictions.logits.argmax(1)
    positions: dict[tuple[int, int], list[int]] = {}
    for position in wrong.tolist():
        pair = (int(predictions.labels[position]), int(predicted[position]))
        positions.setdefault(pair, []).append(position)
    ordered = sorted(positions.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(
        ConfusedPair(true, guess, tuple(places)) for (true, guess), places in ordered[:count]
    )


def strongly_confused(predictions: Predictions) -> tuple[ConfusedPair, ...]:
    """The pairs of which a twentieth of the true class is taken for the other, at least three."""
    counts = np.bincount(predictions.labels, minlength=predictions.logits.shape[1])
    chosen = [
        pair
        for place, pair in enumerate(confused_pairs(predictions, len(predictions)))
        if place < _FEW or len(pair.positions) >= max(2, _STRONG * counts[pair.true])
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
    """The worst mistakes, then each strongly confused pair, each with up to count images.

    pairs: so many of the most frequent ones instead. Empty when nothing is wrong. Raises DataError
    when predictions are not of these images.
    """
    if not np.array_equal(images.ids, predictions.ids):
        raise DataError("expected the predictions of these images, got other ids; predict again")
    found = []
    worst = worst_mistakes(predictions, count)
    if len(worst):
        found.append(
            _explained("The worst mistakes", classifier, images, (predictions, worst, method))
        )
    strong = strongly_confused(predictions) if pairs is None else confused_pairs(predictions, pairs)
    for pair in strong:
        names = predictions.class_names
        often = pluralize(len(pair.positions), "time")
        title = f"{names[pair.true]} taken for {names[pair.predicted]} ({often})"
        chosen = np.asarray(pair.positions[:count], dtype=np.int64)
        found.append(_explained(title, classifier, images, (predictions, chosen, method)))
    return tuple(found)


def _explained(
    title: str,
    classifier: Classifier,
    images: ImageSet,
    what: tuple[Predictions, NDArray[np.int64], MethodName],
) -> Mistakes:
    predictions, positions, method = what
    wrong = take(images, positions)
    certain = probabilities(predictions)[positions]
    guesses = certain.argmax(1)
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
    return Mistakes(title, wrong.ids, certain.max(1), predicted, true, rather)
