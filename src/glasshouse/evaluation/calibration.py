"""Calibration: how far probabilities can be trusted, and temperature scaling to improve them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from glasshouse.evaluation.intervals import Interval, wilson, wilson_of
from glasshouse.evaluation.label_losses import fit_label_temperature
from glasshouse.evaluation.metrics import hits, losses, require_valid
from glasshouse.evaluation.temperature import (
    COLDEST as COLDEST,
    HOTTEST as HOTTEST,
    lowest_loss_at,
)
from glasshouse.models.predict import Predictions, probabilities, softmax

THRESHOLDS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Bin:
    """The images whose confidence, the largest probability, lies between low and high.

    confidence: its mean; accuracy: the share that is correct. Both None in an empty bin.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: Interval | None


@dataclass(frozen=True)
class Calibration:
    """Calibration metrics at one temperature.

    loss: mean cross-entropy in nats. ece, ece_equal_mass: expected calibration error in 0..1, over
    bins of equal width and of equal counts (Guo et al. 2017). brier: mean squared error of the
    probabilities summed over classes, in 0..2 (Brier 1950). confidence: mean largest probability.
    """

    temperature: float
    loss: float
    ece: float
    ece_equal_mass: float
    brier: float
    confidence: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Selective:
    """Selective classification: what remains when predictions below a threshold are rejected.

    kept: images that remain; coverage: their share, in 0..1.
    """

    threshold: float
    kept: int
    coverage: float
    accuracy: Interval


def fit_temperature(predictions: Predictions) -> float:
    """The temperature with the lowest cross-entropy on these (validation) images.

    Between 0.05 and 20, and never worse than 1 on these images. It is 1 when every image is
    correct: the loss would then fall indefinitely towards certainty, which a finite sample cannot
    justify. Guo et al. 2017, "On Calibration of Modern Neural Networks". With several labels per
    image the loss is the binary cross-entropy.
    """
    if predictions.is_multi_label:
        return fit_label_temperature(predictions)
    require_valid(predictions)
    if hits(predictions).all():
        return 1.0
    logits = predictions.logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    own = np.take_along_axis(logits, predictions.labels[:, None], axis=1)[:, 0]
    fitted = lowest_loss_at(lambda inverse: _slope(logits, own, inverse))
    better = losses(predictions, fitted).mean() < losses(predictions, 1.0).mean()
    return fitted if better else 1.0


def calibration(predictions: Predictions, temperature: float) -> Calibration:
    """Calibration metrics at this temperature, over 15 bins."""
    at = replace(predictions, temperature=temperature)
    shares = probabilities(at)
    wide = reliability_bins(at)
    return Calibration(
        temperature=temperature,
        loss=float(losses(predictions, temperature).mean()),
        ece=expected_error(wide),
        ece_equal_mass=expected_error(reliability_bins(at, equal_mass=True)),
        brier=_brier(shares, predictions.labels),
        confidence=float(shares.max(axis=1).mean()),
        bins=wide,
    )


def reliability_bins(
    predictions: Predictions, *, bins: int = 15, equal_mass: bool = False
) -> tuple[Bin, ...]:
    """The bins of a reliability diagram: of equal width, or of about equal counts.

    Equal confidences always share a bin, so the order of the images does not matter.
    """
    confidence = probabilities(predictions).max(axis=1)
    return binned(confidence, hits(predictions), bins=bins, equal_mass=equal_mass)


def binned(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], *, bins: int, equal_mass: bool
) -> tuple[Bin, ...]:
    """Bins of predictions ``(n,)`` with a probability each, and whether each came true."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    if equal_mass:
        edges = np.unique(np.quantile(confidence, edges))
        edges = np.array([edges[0], edges[0]]) if len(edges) == 1 else edges
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2)
    return tuple(
        _bin(float(edges[b]), float(edges[b + 1]), confidence[place == b], right[place == b])
        for b in range(len(edges) - 1)
    )


def expected_error(bins: tuple[Bin, ...]) -> float:
    """Expected calibration error: the mean gap of confidence and accuracy over images, in 0..1."""
    total = sum(b.count for b in bins)
    return sum(
        b.count / total * abs(b.confidence - b.accuracy.value)
        for b in bins
        if b.confidence is not None and b.accuracy is not None
    )


def selective(predictions: Predictions) -> tuple[Selective, ...]:
    """Accuracy and coverage at each of a few fixed thresholds of confidence, lowest first.

    The thresholds are fixed in advance: one chosen on the test split would look too good.
    """
    confidence = probabilities(predictions).max(axis=1)
    right = hits(predictions)
    rows = []
    for threshold in THRESHOLDS:
        kept = confidence >= threshold
        count = int(np.count_nonzero(kept))
        if count:
            correct = int(np.count_nonzero(right & kept))
            rows.append(Selective(threshold, count, count / len(kept), wilson(correct, count)))
    return tuple(rows)


def _slope(logits: NDArray[np.float64], own: NDArray[np.float64], inverse: float) -> float:
    """Derivative of the mean loss by 1/T: the expected logit minus that of the true class."""
    mean = (softmax(logits * inverse) * logits).sum(axis=1)
    return float((mean - own).mean())


def _bin(low: float, high: float, confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Bin:
    if len(right) == 0:
        return Bin(low, high, 0, None, None)
    return Bin(low, high, len(right), float(confidence.mean()), wilson_of(right))


def _brier(shares: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    own = np.take_along_axis(shares, labels[:, None], axis=1)[:, 0]
    return float(((shares**2).sum(axis=1) - 2 * own + 1).mean())
