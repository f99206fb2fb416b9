"""Temperatures and reliability of predictions whose calibration is known."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from glasshouse.errors import DataError
from glasshouse.evaluation.calibration import (
    COLDEST,
    HOTTEST,
    calibration,
    expected_error,
    fit_temperature,
    reliability_bins,
    selective,
)
from glasshouse.evaluation.metrics import losses
from glasshouse.models.predict import Predictions, probabilities


def truthful(n: int = 20_000, classes: int = 4, sharpness: float = 1.5) -> Predictions:
    """Labels drawn from the probabilities themselves: perfectly calibrated at temperature 1."""
    generator = np.random.default_rng(3)
    logits = (sharpness * generator.normal(size=(n, classes))).astype(np.float32)
    labels = (logits + generator.gumbel(size=(n, classes))).argmax(axis=1)
    names = tuple(f"class {c}" for c in range(classes))
    return Predictions(logits, labels, np.arange(n).astype(str), names)


def test_the_temperature_undoes_a_known_sharpening() -> None:
    predictions = truthful()
    sharpened = replace(predictions, logits=predictions.logits * np.float32(2.5))
    assert fit_temperature(predictions) == pytest.approx(1.0, abs=0.04)
    assert fit_temperature(sharpened) == pytest.approx(2.5 * fit_temperature(predictions), rel=1e-5)


def test_the_recorded_temperature_does_not_change_the_fit() -> None:
    predictions = truthful(500)
    assert fit_temperature(replace(predictions, temperature=7.0)) == fit_temperature(predictions)


def test_perfect_predictions_keep_temperature_one() -> None:
    right = truthful(200)
    right = replace(right, targets=right.logits.argmax(axis=1))
    assert fit_temperature(right) == 1.0


def test_one_class_keeps_temperature_one() -> None:
    single = Predictions(np.ones((3, 1), np.float32), np.zeros(3, np.int64), np.array(list("abc")),
                         ("only",))  # fmt: skip
    assert fit_temperature(single) == 1.0


def test_a_classifier_that_is_always_wrong_is_cooled_only_to_the_bound() -> None:
    wrong = truthful(200)
    wrong = replace(wrong, targets=wrong.logits.argmin(axis=1))
    assert fit_temperature(wrong) == pytest.approx(HOTTEST)
    assert COLDEST < 1 < HOTTEST


def test_no_images_have_no_temperature() -> None:
    with pytest.raises(DataError, match="no images"):
        fit_temperature(
            replace(truthful(5), logits=np.zeros((0, 4), np.float32),
                    targets=np.zeros(0, np.int64), ids=np.zeros(0, "U1"))
        )  # fmt: skip


def test_calibrated_probabilities_have_almost_no_calibration_error() -> None:
    found = calibration(truthful(), 1.0)
    assert found.ece < 0.015
    assert found.ece_equal_mass < 0.015
    assert found.confidence == pytest.approx(probabilities(truthful()).max(axis=1).mean())


def test_a_known_overconfidence_is_measured() -> None:
    # Always 0.75 sure of the first of two classes, right on 3 of 10.
    logits = np.tile(np.array([np.log(3.0), 0.0], np.float32), (10, 1))
    labels = np.array([0] * 3 + [1] * 7)
    found = calibration(Predictions(logits, labels, np.arange(10).astype(str), ("a", "b")), 1.0)
    assert found.ece == pytest.approx(0.45)
    assert found.ece_equal_mass == pytest.approx(0.45)
    assert found.brier == pytest.approx(0.3 * 2 * 0.25**2 + 0.7 * 2 * 0.75**2)
    assert found.loss == pytest.approx(-0.3 * np.log(0.75) - 0.7 * np.log(0.25))


def test_bins_hold_every_image_once() -> None:
    for equal_mass in (False, True):
        bins = reliability_bins(truthful(997), equal_mass=equal_mass)
        assert len(bins) == 15
        assert sum(b.count for b in bins) == 997
    counts = [b.count for b in reliability_bins(truthful(997), equal_mass=True)]
    assert max(counts) - min(counts) <= 2


def certain_by_half(count: int, classes: int = 2) -> Predictions:
    """Confidences of exactly 1/2 with two classes, which no rounding moves."""
    labels = np.arange(count) % classes
    names = tuple(f"class {c}" for c in range(classes))
    return Predictions(
        np.zeros((count, classes), np.float32), labels, np.arange(count).astype(str), names
    )


def test_a_confidence_at_the_edge_of_two_bins_is_in_the_lower_one() -> None:
    bins = reliability_bins(certain_by_half(6), bins=4)
    assert [(b.low, b.high, b.count) for b in bins] == [
        (0.0, 0.25, 0), (0.25, 0.5, 6), (0.5, 0.75, 0), (0.75, 1.0, 0),
    ]  # fmt: skip


def test_a_confidence_of_one_is_in_the_last_bin() -> None:
    sure = replace(certain_by_half(4), logits=np.array([[900, 0]] * 4, np.float32))
    assert [b.count for b in reliability_bins(sure, bins=4)] == [0, 0, 0, 4]


def test_an_image_at_a_threshold_is_kept() -> None:
    rows = selective(certain_by_half(6))
    assert [row.threshold for row in rows] == [0.0, 0.3, 0.5]
    assert [row.kept for row in rows] == [6, 6, 6]


def test_a_bin_says_how_uncertain_its_accuracy_is() -> None:
    empty, *_, full = reliability_bins(truthful(2000, sharpness=5.0))
    assert (empty.count, empty.accuracy, empty.confidence) == (0, None, None)
    assert full.accuracy is not None
    assert full.accuracy.low < full.accuracy.value < full.accuracy.high


def test_saturated_probabilities_do_not_depend_on_the_order() -> None:
    sure = truthful(300, sharpness=400.0)
    order = np.random.default_rng(0).permutation(300)
    mixed = replace(sure, logits=sure.logits[order], targets=sure.labels[order])
    same = (expected_error(reliability_bins(p, equal_mass=True)) for p in (sure, mixed))
    assert next(same) == pytest.approx(next(same))


def test_rejecting_trades_coverage_for_accuracy() -> None:
    rows = selective(truthful())
    assert (rows[0].threshold, rows[0].coverage) == (0.0, 1.0)
    assert all(a.kept >= b.kept for a, b in pairwise(rows))
    assert all(row.accuracy.value >= row.threshold - 0.01 for row in rows)


def test_thresholds_that_no_image_passes_are_left_out() -> None:
    unsure = replace(truthful(100), logits=np.zeros((100, 4), np.float32))
    assert [row.threshold for row in selective(unsure)] == [0.0]


def test_calibration_errors_are_those_of_counting_bin_by_bin() -> None:
    predictions = truthful(1500, sharpness=2.0)
    found = calibration(predictions, 1.7)
    shares = probabilities(replace(predictions, temperature=1.7))
    sure, right = shares.max(axis=1), shares.argmax(axis=1) == predictions.labels
    expected = 0.0
    for number, each in enumerate(found.bins):
        assert (each.low, each.high) == pytest.approx((number / 15, (number + 1) / 15))
        inside = (sure > number / 15) & (sure <= (number + 1) / 15)
        assert each.count == inside.sum()
        if each.count:
            assert each.accuracy is not None
            assert each.accuracy.value == pytest.approx(right[inside].mean())
            assert each.confidence == pytest.approx(sure[inside].mean())
            expected += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    assert found.ece == pytest.approx(expected)
    # Without equal confidences, bins of equal counts are the hundred next to one another.
    order = np.argsort(sure)
    gaps = [sure[part].mean() - right[part].mean() for part in np.split(order, 15)]
    assert found.ece_equal_mass == pytest.approx(np.mean(np.abs(gaps)))
    hot = np.eye(4)[predictions.labels]
    assert found.brier == pytest.approx(((shares - hot) ** 2).sum(axis=1).mean())
    assert found.loss == pytest.approx(log_loss(predictions.labels, shares))
    assert found.confidence == pytest.approx(sure.mean())


def test_selective_classification_counts_what_is_above_each_threshold() -> None:
    predictions = replace(truthful(1500, sharpness=4.0), temperature=1.3)
    shares = probabilities(predictions)
    sure, right = shares.max(axis=1), shares.argmax(axis=1) == predictions.labels
    rows = selective(predictions)
    assert [row.threshold for row in rows] == [0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
    for row in rows:
        kept = sure >= row.threshold
        assert row.kept == kept.sum()
        assert row.coverage == pytest.approx(kept.mean())
        assert row.accuracy.value == pytest.approx(right[kept].mean())
    single = replace(
        predictions, logits=predictions.logits[:1] * 100, targets=predictions.labels[:1]
    )
    assert [row.kept for row in selective(single)] == [1] * 9


def test_the_temperature_is_the_one_that_a_minimiser_finds() -> None:
    for sharpness in (0.5, 3.0):
        predictions = truthful(600)
        predictions = replace(predictions, logits=predictions.logits * np.float32(sharpness))
        best = minimize_scalar(
            lambda t, p=predictions: losses(p, t).mean(), bounds=(0.05, 20), method="bounded"
        )
        assert fit_temperature(predictions) == pytest.approx(best.x, rel=1e-4)
        shifted = replace(predictions, logits=predictions.logits + np.float32(100))
        assert fit_temperature(shifted) == pytest.approx(best.x, rel=1e-3)


def test_equal_confidences_of_equal_counts_make_one_bin() -> None:
    (only,) = reliability_bins(certain_by_half(6), bins=4, equal_mass=True)
    assert (only.low, only.high, only.count) == (0.5, 0.5, 6)
