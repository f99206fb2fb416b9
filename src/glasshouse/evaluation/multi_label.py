"""Metrics where an image may have any number of labels: each label on its own, and their means.

Average precision, F1 and their means are defined as in scikit-learn. Their intervals are percentile
intervals of a bootstrap over images (Efron 1979): labels of one image are not independent.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.targets import combinations_of
from glasshouse.errors import DataError, require_type
from glasshouse.evaluation.calibration import Calibration
from glasshouse.evaluation.intervals import Interval, wilson, wilson_of
from glasshouse.evaluation.label_calibration import label_calibration
from glasshouse.evaluation.label_losses import label_losses
from glasshouse.models.predict import Predictions
from glasshouse.notebook import html_for_notebook
from glasshouse.wording import percentage

Floats = NDArray[np.float64]

_RESAMPLES, _CHUNK = 1000, 4_000_000
MISSED_SHOWN = 100


@dataclass(frozen=True)
class LabelMetrics:
    """The metrics of one label, in 0..1; None where undefined.

    support: images that have it. predicted: images for which it was predicted, from the threshold
    of its probability on. average_precision: area below the curve of precision over recall.
    """

    name: str
    support: int
    predicted: int
    threshold: float
    average_precision: Interval | None
    precision: float | None
    recall: Interval | None
    f1: Interval | None


@dataclass(frozen=True)
class LabelError:
    """A label that an image has and that was not predicted, or the other way round."""

    id: str
    label: str
    is_missed: bool
    probability: float


@dataclass(frozen=True)
class MultiLabelEvaluation:
    """All metrics of predictions with any number of labels per image; losses in nats.

    accuracy: share of the images with all labels right (subset accuracy). commonest_share: that of
    always predicting the most frequent combination of labels. unlabelled_count: images without any
    label. mean_average_precision, macro_f1: means over the labels that occur; chance: the mean
    average precision of guessing. micro_f1: over all pairs of image and label. loss, before, after:
    binary cross-entropy and calibration over all such pairs, at temperature 1 and at the
    calibrated one. errors: the most confident first, of error_count in total.
    """

    image_count: int
    unlabelled_count: int
    class_names: tuple[str, ...]
    accuracy: Interval
    commonest_share: float
    mean_average_precision: Interval
    chance: float
    macro_f1: Interval
    micro_f1: float
    loss: float
    calibrated_loss: float
    per_label: tuple[LabelMetrics, ...]
    error_count: int
    errors: tuple[LabelError, ...]
    before: Calibration
    after: Calibration

    def __repr__(self) -> str:
        found = self.mean_average_precision
        return (
            f"MultiLabelEvaluation({self.image_count:,} images, {len(self.class_names)} labels, "
            f"mean average precision {found.value:.3f} ({found.low:.3f} to {found.high:.3f}), "
            f"F1 {self.macro_f1.value:.3f}, all labels right {percentage(self.accuracy.value, 1)})"
        )

    def _repr_html_(self) -> str:
        return html_for_notebook(self)


def evaluate_labels(predictions: Predictions) -> MultiLabelEvaluation:
    """All metrics of a report for predictions of several labels per image.

    Raises DataError when there are no images or the logits are not finite.
    """
    require_matrix(predictions)
    truth, found = predictions.label_matrix, predictions.predicted_matrix
    shares = predictions.probabilities
    precisions, means, scores, macro = _intervals(truth, found, shares)
    before, after = (label_calibration(predictions, t) for t in (1.0, predictions.temperature))
    errors = wrong_labels(predictions)
    return MultiLabelEvaluation(
        image_count=len(predictions),
        unlabelled_count=int((~truth.any(axis=1)).sum()),
        class_names=predictions.class_names,
        accuracy=wilson_of((truth == found).all(axis=1)),
        commonest_share=float(np.bincount(combinations_of(truth)).max() / len(truth)),
        mean_average_precision=means,
        chance=float(truth.mean(axis=0)[truth.any(axis=0)].mean()),
        macro_f1=macro,
        micro_f1=_f1_of(int((truth & found).sum()), int(truth.sum()), int(found.sum())) or 0.0,
        loss=float(label_losses(predictions, 1.0).mean()),
        calibrated_loss=float(label_losses(predictions, predictions.temperature).mean()),
        per_label=tuple(
            _label_metrics(predictions, label, (truth, found), precisions[label], scores[label])
            for label in range(len(predictions.class_names))
        ),
        error_count=len(errors),
        errors=tuple(errors[:MISSED_SHOWN]),
        before=before,
        after=after,
    )


def require_matrix(predictions: Predictions) -> None:
    """Raise DataError when these metrics are undefined: no images, labels or finite numbers."""
    require_type(predictions, Predictions, "predictions, such as predict(classifier, splits.test)")
    if len(predictions) == 0:
        raise DataError("there are no images to evaluate: expected at least one")
    if not predictions.is_multi_label or predictions.targets.ndim != 2:
        raise DataError(
            "the images have no labels, without which nothing can be evaluated: predict an "
            "ImageSet, such as the test split of load_splits"
        )
    if not np.isfinite(predictions.logits).all():
        bad = ~np.isfinite(predictions.logits).all(axis=1)
        raise DataError(
            f"the logits of {bad.sum()} images are not finite (first: {predictions.ids[bad][0]}); "
            "training has diverged, or an image is damaged"
        )
    if not predictions.label_matrix.any():
        raise DataError("none of the images has a label: expected at least one that has")


def average_precision(truth: NDArray[np.bool_], scores: Floats) -> float | None:
    """Sum of precision times the step of recall over falling scores; None without a positive.

    truth, scores ``(n,)``; as ``sklearn.metrics.average_precision_score``, equal scores together.
    """
    if not truth.any():
        return None
    return float(_average_precisions(truth, scores, np.ones((1, len(truth))))[0])


def mean_average_precision(truth: NDArray[np.bool_], scores: Floats) -> float:
    """The mean of `average_precision` over the labels that occur; truth, scores ``(n, k)``.

    NaN where no image has a label.
    """
    each = [average_precision(truth[:, k], scores[:, k]) for k in np.flatnonzero(truth.any(axis=0))]
    return float(np.mean([value for value in each if value is not None])) if each else math.nan


def f1_score(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> float | None:
    """The harmonic mean of precision and recall; None where the label never occurs."""
    return _f1_of(int((truth & found).sum()), int(truth.sum()), int(found.sum()))


def _f1_of(both: int, support: int, predicted: int) -> float | None:
    return 2 * both / (support + predicted) if support else None


def _average_precisions(truth: NDArray[np.bool_], scores: Floats, weights: Floats) -> Floats:
    """Average precision ``(r,)`` for each row of image weights ``(r, n)``; NaN without positives.

    One sort serves all resamples, since a resample only counts images several times or not at all.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    # Images of equal score enter the curve together.
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    weight = weights[:, order]
    hits = np.cumsum(weight * truth[order], axis=1)[:, ends]
    seen = np.cumsum(weight, axis=1)[:, ends]
    steps = np.diff(hits, axis=1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(seen > 0, hits / seen, 0.0)
        total: Floats = (steps * precision).sum(axis=1) / hits[:, -1]
    return total


def _intervals(
    truth: NDArray[np.bool_], found: NDArray[np.bool_], shares: Floats
) -> tuple[list[Interval | None], Interval, list[Interval | None], Interval]:
    """Average precision and F1: of each label, and their means over the labels that occur."""
    weights = _resampled_weights(len(truth))
    occurs = truth.any(axis=0)
    precisions, scores = np.full((2, truth.shape[1], len(weights)), np.nan)
    for label in np.flatnonzero(occurs):
        own, answered = truth[:, label], found[:, label]
        precisions[label] = _in_parts(own, shares[:, label], weights)
        both, support, predicted = (
            weights @ each.astype(np.float64) for each in (own & answered, own, answered)
        )
        with np.errstate(invalid="ignore"):
            scores[label] = 2 * both / (support + predicted)
        # A resample without the label says nothing about it.
        scores[label][support == 0] = np.nan
    exact = [average_precision(truth[:, k], shares[:, k]) for k in range(truth.shape[1])]
    f1 = [f1_score(truth[:, k], found[:, k]) for k in range(truth.shape[1])]
    return (
        [_interval(value, drawn) for value, drawn in zip(exact, precisions, strict=True)],
        _mean_interval(exact, precisions[occurs]),
        [_interval(value, drawn) for value, drawn in zip(f1, scores, strict=True)],
        _mean_interval(f1, scores[occurs]),
    )


def _in_parts(truth: NDArray[np.bool_], scores: Floats, weights: Floats) -> Floats:
    rows = max(1, _CHUNK // len(truth))
    parts = [
        _average_precisions(truth, scores, weights[start : start + rows])
        for start in range(0, len(weights), rows)
    ]
    return np.concatenate(parts)


def _resampled_weights(count: int) -> Floats:
    """How often each image occurs in each resample ``(r, n)``; the same for all metrics."""
    # Fewer for many images, whose intervals are short: the table stays below 80 MB.
    resamples = min(_RESAMPLES, max(200, 10_000_000 // count))
    generator = np.random.default_rng(0)
    return generator.multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)


def _interval(value: float | None, drawn: Floats) -> Interval | None:
    if value is None:
        return None
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _mean_interval(values: list[float | None], drawn: Floats) -> Interval:
    known = [value for value in values if value is not None]
    found = _interval(float(np.mean(known)), np.nanmean(drawn, axis=0))
    assert found is not None
    return found


def _label_metrics(
    predictions: Predictions,
    label: int,
    both: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    precision: Interval | None,
    score: Interval | None,
) -> LabelMetrics:
    truth, found = (matrix[:, label] for matrix in both)
    support, predicted, right = int(truth.sum()), int(found.sum()), int((truth & found).sum())
    assert predictions.thresholds is not None
    return LabelMetrics(
        name=predictions.class_names[label],
        support=support,
        predicted=predicted,
        threshold=predictions.thresholds[label],
        average_precision=precision,
        precision=right / predicted if predicted else None,
        recall=wilson(right, support) if support else None,
        f1=score,
    )


def wrong_labels(predictions: Predictions) -> list[LabelError]:
    """The labels that are wrongly marked or missed, those farthest from their threshold first."""
    truth, found = predictions.label_matrix, predictions.predicted_matrix
    shares = predictions.probabilities
    apart = np.abs(shares - np.asarray(predictions.thresholds))
    rows, labels = np.nonzero(truth != found)
    order = np.argsort(-apart[rows, labels], kind="stable")
    return [
        LabelError(
            id=str(predictions.ids[row]),
            label=predictions.class_names[label],
            is_missed=bool(truth[row, label]),
            probability=float(shares[row, label]),
        )
        for row, label in zip(rows[order].tolist(), labels[order].tolist(), strict=True)
    ]
