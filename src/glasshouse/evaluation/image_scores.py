"""The main metric of a test split as a mean over its images, which paired comparisons need."""

import numpy as np
from numpy.typing import NDArray

from glasshouse.evaluation.metrics import hits
from glasshouse.evaluation.multi_label import average_precision, require_matrix
from glasshouse.models.predict import Predictions

Floats = NDArray[np.float64]


def image_scores(predictions: Predictions) -> Floats:
    """A score ``(n,)`` for each image, whose mean is the main metric.

    1 or 0 for right or wrong. Where an image may have several labels, the mean average precision
    plus the image's influence on it, by the infinitesimal jackknife (Jaeckel 1972, Efron 1982): the
    variance of the mean of these scores is that of the metric, to first order.
    """
    if not predictions.is_multi_label:
        return hits(predictions).astype(np.float64)
    mean: Floats = label_scores(predictions).mean(axis=0)
    return mean


def label_scores(predictions: Predictions) -> Floats:
    """The same for the average precision of each label that occurs, ``(labels, n)``, in order."""
    require_matrix(predictions)
    truth, shares = predictions.label_matrix, predictions.probabilities
    labels = np.flatnonzero(truth.any(axis=0))
    return np.stack([_precision_scores(truth[:, label], shares[:, label]) for label in labels])


def _precision_scores(truth: NDArray[np.bool_], scores: Floats) -> Floats:
    """Average precision plus n times its derivative by the weight of each image, ``(n,)``.

    With the hits H and the images S seen up to each score, average precision is the sum of h H / S
    over the scores, divided by all hits. The weight of an image changes h at its own score, H and
    S from there on, and all hits.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, has = scores[order], truth[order].astype(np.float64)
    # Images of equal score enter the curve together.
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(ordered))))
    steps = np.add.reduceat(has, starts)
    hits_so_far, seen = np.cumsum(steps), np.append(starts[1:], len(ordered)).astype(np.float64)
    precision = hits_so_far / seen
    by_hits = np.cumsum((steps / seen)[::-1])[::-1]
    by_seen = np.cumsum((steps * precision / seen)[::-1])[::-1]
    total, value = has.sum(), average_precision(truth, scores)
    assert value is not None
    gradient = has * (precision + by_hits - value)[group] - by_seen[group]
    found = np.empty(len(truth))
    found[order] = value + len(truth) * gradient / total
    return found
