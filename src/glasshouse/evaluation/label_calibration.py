"""Calibration where each label has a probability of its own, and the thresholds of labels."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from glasshouse.evaluation.calibration import (
    Bin,
    Calibration,
    binned,
    expected_error,
)
from glasshouse.evaluation.label_losses import label_losses
from glasshouse.models.predict import Predictions

Floats = NDArray[np.float64]


def choose_thresholds(predictions: Predictions) -> tuple[float, ...]:
    """The threshold of each label with the highest F1 on these (validation) images.

    On the calibrated probabilities, half way between the lowest that is predicted and the next
    one below; of equally good ones, the one nearest to a half. A label that no image has keeps a
    half.
    """
    shares, truth = predictions.probabilities, predictions.label_matrix
    return tuple(_best_threshold(truth[:, k], shares[:, k]) for k in range(truth.shape[1]))


def label_calibration(predictions: Predictions, temperature: float) -> Calibration:
    """Calibration over all pairs of image and label, at this temperature, in 15 bins.

    A bin compares the mean probability with the share of the pairs in which the image has the
    label. brier: summed over the labels, mean over the images. confidence: the mean probability.
    """
    at = replace(predictions, temperature=temperature)
    shares, truth = at.probabilities, at.label_matrix
    wide = _bins(shares, truth, is_equal_mass=False)
    return Calibration(
        temperature=temperature,
        loss=float(label_losses(predictions, temperature).mean()),
        ece=expected_error(wide),
        ece_equal_mass=expected_error(_bins(shares, truth, is_equal_mass=True)),
        brier=float(((shares - truth) ** 2).sum(axis=1).mean()),
        confidence=float(shares.mean()),
        bins=wide,
    )


def _best_threshold(truth: NDArray[np.bool_], shares: Floats) -> float:
    if not truth.any():
        return 0.5
    order = np.argsort(-shares, kind="stable")
    ordered, hits = shares[order], np.cumsum(truth[order])
    # Equal probabilities are predicted together, so that only the last of them can be a limit.
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    scores = 2 * hits[ends] / (ends + 1 + truth.sum())
    below = np.append(ordered[1:], 0.0)[ends]
    middle = (ordered[ends] + below) / 2
    # Rounding may make the middle equal to the one below, which would then be predicted as well.
    limits = np.where(middle > below, middle, ordered[ends])
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    return float(limits[best[np.argmin(np.abs(limits[best] - 0.5))]])


def _bins(shares: Floats, truth: NDArray[np.bool_], *, is_equal_mass: bool) -> tuple[Bin, ...]:
    return binned(shares.ravel(), truth.ravel(), bins=15, equal_mass=is_equal_mass)
