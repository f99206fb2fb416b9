"""Classification metrics: accuracy, per-class metrics, confusion, and the worst mistakes."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import DataError, require_type
from glasshouse.evaluation.intervals import Interval, wilson
from glasshouse.models.outputs import UNKNOWN
from glasshouse.models.predict import Predictions, log_softmax, probabilities


@dataclass(frozen=True)
class ClassMetrics:
    """The metrics of one class, in 0..1; None where undefined.

    support: its number of images. predicted: how often it was predicted.
    """

    name: str
    support: int
    predicted: int
    precision: float | None
    recall: Interval | None
    f1: float | None


@dataclass(frozen=True)
class Average:
    """Means over the classes that have images, in 0..1."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ConfusedPair:
    """Images of one class predicted as another; share: of the images of the true class."""

    true: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True)
class Mistake:
    """A misclassified image, with the calibrated probabilities of both classes."""

    id: str
    true: str
    predicted: str
    probability: float
    probability_of_true: float


def require_valid(predictions: Predictions) -> None:
    """Raise DataError when metrics are undefined: no images, wrong shapes, labels or numbers."""
    require_type(predictions, Predictions, "predictions, such as predict(classifier, splits.test)")
    if predictions.is_multi_label:
        raise DataError(
            "these metrics are for one label per image, but the predictions may have several: "
            "evaluate_labels(predictions) has theirs"
        )
    shape = (len(predictions.labels), len(predictions.class_names))
    if len(predictions) == 0:
        raise DataError("there are no images to evaluate: expected at least one")
    if predictions.logits.shape != shape or len(predictions.ids) != shape[0]:
        raise DataError(
            f"expected logits of {shape[0]} images by {shape[1]} classes and {shape[0]} ids, "
            f"received logits {predictions.logits.shape} and {len(predictions.ids)} ids"
        )
    if (predictions.labels == UNKNOWN).any():
        first = predictions.ids[predictions.labels == UNKNOWN][0]
        raise DataError(
            f"{first} has no label, without which nothing can be evaluated: predict an "
            "ImageSet, such as the test split of load_splits"
        )
    outside = np.flatnonzero((predictions.labels < 0) | (predictions.labels >= shape[1]))
    if len(outside):
        raise DataError(
            f"image {predictions.ids[outside[0]]} has the label "
            f"{predictions.labels[outside[0]]}; expected 0 to {shape[1] - 1}"
        )
    bad = np.flatnonzero(~np.isfinite(predictions.logits).all(axis=1))
    if len(bad):
        raise DataError(
            f"the logits of {len(bad)} images are not finite (first: "
            f"{predictions.ids[bad[0]]}); training has diverged, or an image is damaged"
        )


def predicted_labels(predictions: Predictions) -> NDArray[np.int64]:
    """The class with the largest logit, ``(n,)``; the first one in a tie."""
    return np.asarray(predictions.logits.argmax(axis=1), dtype=np.int64)


def hits(predictions: Predictions) -> NDArray[np.bool_]:
    """True where the predicted class is the true one, ``(n,)``."""
    result: NDArray[np.bool_] = predicted_labels(predictions) == predictions.labels
    return result


def top_k_hits(predictions: Predictions, k: int) -> NDArray[np.bool_]:
    """True where the true class is among the k largest logits, ``(n,)``; ties as in hits."""
    own = np.take_along_axis(predictions.logits, predictions.labels[:, None], axis=1)
    earlier = np.arange(predictions.logits.shape[1])[None, :] < predictions.labels[:, None]
    ahead = (predictions.logits > own) | ((predictions.logits == own) & earlier)
    return np.asarray(np.count_nonzero(ahead, axis=1) < k)


def losses(predictions: Predictions, temperature: float = 1.0) -> NDArray[np.float64]:
    """Cross-entropy of each image in nats, ``(n,)``, at this temperature."""
    logs = log_softmax(predictions.logits.astype(np.float64) / temperature)
    # Subtracted from 0 rather than negated: the loss of a certain prediction is 0, not -0.
    return 0.0 - np.take_along_axis(logs, predictions.labels[:, None], axis=1)[:, 0]


def confusion_matrix(predictions: Predictions) -> NDArray[np.int64]:
    """Counts ``(k, k)``: one row per true class, one column per predicted class."""
    count = len(predictions.class_names)
    cells = np.bincount(
        predictions.labels * count + predicted_labels(predictions), minlength=count * count
    )
    return cells.reshape(count, count).astype(np.int64)


def per_class(predictions: Predictions) -> tuple[ClassMetrics, ...]:
    """Precision, recall with its 95 % interval and F1 of each class, in order."""
    cells = confusion_matrix(predictions)
    classes = np.arange(len(cells))
    precision, _, f1, support = _scores(predictions, classes)
    predicted = cells.sum(axis=0)
    return tuple(
        ClassMetrics(
            name=name,
            support=int(support[c]),
            predicted=int(predicted[c]),
            precision=float(precision[c]) if predicted[c] else None,
            recall=wilson(int(cells[c, c]), int(support[c])) if support[c] else None,
            f1=float(f1[c]) if support[c] else None,
        )
        for c, name in enumerate(predictions.class_names)
    )


def average(predictions: Predictions, weighting: str) -> Average:
    """Means over classes with images: "macro" counts classes alike, "weighted" images.

    A class that was never predicted counts with precision 0.
    """
    present = np.unique(predictions.labels)
    precision, recall, f1, _ = _scores(predictions, present, weighting)
    return Average(float(precision), float(recall), float(f1))


def _scores(
    predictions: Predictions, labels: NDArray[np.int64], weighting: str | None = None
) -> tuple[Any, ...]:
    """Precision, recall, F1 and support: of each class, or, with a weighting, their means."""
    # Local: scikit-learn takes longer to import than everything of ours, and no trial evaluates.
    from sklearn.metrics import precision_recall_fscore_support

    found: tuple[Any, ...] = precision_recall_fscore_support(
        predictions.labels,
        predicted_labels(predictions),
        labels=labels,
        average=weighting,
        zero_division=0,
    )
    return found


def confused_pairs(predictions: Predictions, limit: int) -> tuple[ConfusedPair, ...]:
    """The most frequent pairs of a true and a different predicted class, most frequent first.

    Equally frequent pairs keep the order of their classes.
    """
    answers = predicted_labels(predictions)
    wrong = answers != predictions.labels
    pairs = Counter(zip(predictions.labels[wrong].tolist(), answers[wrong].tolist(), strict=True))
    support = np.bincount(predictions.labels, minlength=len(predictions.class_names))
    names = predictions.class_names
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        ConfusedPair(names[true], names[answer], count, count / int(support[true]))
        for (true, answer), count in ranked[:limit]
    )


def mistake_positions(
    predictions: Predictions, pair: ConfusedPair | None = None
) -> NDArray[np.int64]:
    """Positions of the misclassified images, most confident first; equal ones keep their order.

    pair: only those of this true and predicted class.
    """
    shares = probabilities(predictions)
    answers = predicted_labels(predictions)
    is_wrong = answers != predictions.labels
    if pair is not None:
        names = predictions.class_names
        is_wrong &= predictions.labels == names.index(pair.true)
        is_wrong &= answers == names.index(pair.predicted)
    wrong = np.flatnonzero(is_wrong)
    # Saturated probabilities are all 1; the probability of the true class still ranks them.
    tiny = np.finfo(float).tiny
    of_true = np.log(np.maximum(shares[wrong, predictions.labels[wrong]], tiny))
    order = np.lexsort((of_true, -shares[wrong, answers[wrong]]))
    return np.asarray(wrong[order], dtype=np.int64)


def worst_mistakes(predictions: Predictions, limit: int) -> tuple[Mistake, ...]:
    """The mistakes made with the highest probability, in the order of `mistake_positions`."""
    shares = probabilities(predictions)
    answers = predicted_labels(predictions)
    return tuple(
        Mistake(
            id=str(predictions.ids[i]),
            true=predictions.class_names[predictions.labels[i]],
            predicted=predictions.class_names[answers[i]],
            probability=float(shares[i, answers[i]]),
            probability_of_true=float(shares[i, predictions.labels[i]]),
        )
        for i in mistake_positions(predictions)[:limit].tolist()
    )
