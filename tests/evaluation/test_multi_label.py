"""Metrics of several labels per image, against scikit-learn and SciPy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss

from glasshouse.errors import DataError
from glasshouse.evaluation.calibration import fit_temperature
from glasshouse.evaluation.evaluation import evaluate, evaluate_any
from glasshouse.evaluation.label_calibration import choose_thresholds
from glasshouse.evaluation.label_losses import label_losses
from glasshouse.evaluation.multi_label import MultiLabelEvaluation, evaluate_labels
from glasshouse.models.outputs import Predictions, load_predictions, save_predictions

NAMES = ("cat", "dog", "sofa", "tree")


def drawn(seed: int = 0, count: int = 300, *, digits: int = 1) -> Predictions:
    """Noisy logits, rounded so that many scores are equal."""
    random = np.random.default_rng(seed)
    truth = random.random((count, len(NAMES))) < np.array([0.5, 0.3, 0.1, 0.05])
    logits = (3 * (random.normal(size=truth.shape) + 2 * truth - 1)).round(digits)
    ids = np.array([f"{n}" for n in range(count)])
    return Predictions(logits.astype(np.float32), truth, ids, NAMES, 1.0, (0.5, 0.4, 0.3, 0.2))


@pytest.mark.parametrize("digits", [0, 1, 6])
def test_metrics_equal_those_of_scikit_learn(digits: int) -> None:
    predictions = drawn(digits=digits)
    truth, shares = predictions.label_matrix, predictions.probabilities
    found, result = predictions.predicted_matrix, evaluate_labels(predictions)
    assert result.mean_average_precision.value == pytest.approx(
        average_precision_score(truth, shares, average="macro"), abs=1e-12
    )
    assert result.macro_f1.value == pytest.approx(f1_score(truth, found, average="macro"))
    assert result.micro_f1 == pytest.approx(f1_score(truth, found, average="micro"))
    assert result.accuracy.value == pytest.approx(accuracy_score(truth, found))
    assert result.loss == pytest.approx(
        np.mean([log_loss(truth[:, k], shares[:, k]) for k in range(4)])
    )
    for label, row in enumerate(result.per_label):
        own, answered = truth[:, label], found[:, label]
        assert row.average_precision is not None and row.f1 is not None
        assert row.average_precision.value == pytest.approx(
            average_precision_score(own, shares[:, label]), abs=1e-12
        )
        assert row.f1.value == pytest.approx(f1_score(own, answered))
        assert row.average_precision.low < row.average_precision.value < row.average_precision.high
        assert (row.support, row.predicted) == (own.sum(), answered.sum())


def test_an_interval_is_that_of_resampled_images() -> None:
    predictions = drawn(count=150)
    truth, shares = predictions.label_matrix, predictions.probabilities
    random = np.random.default_rng(1)
    means = []
    for _ in range(1000):
        rows = random.integers(0, 150, 150)
        each = [
            average_precision_score(truth[rows, k], shares[rows, k])
            for k in range(4)
            if truth[rows, k].any()
        ]
        means.append(np.mean(each))
    found = evaluate_labels(predictions).mean_average_precision
    low, high = np.quantile(means, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)


def test_thresholds_have_the_highest_f1_that_any_has() -> None:
    predictions = drawn(3)
    chosen = replace(predictions, thresholds=choose_thresholds(predictions))
    truth, shares = predictions.label_matrix, predictions.probabilities
    for label in range(4):
        best = max(
            f1_score(truth[:, label], shares[:, label] >= limit)
            for limit in np.unique(shares[:, label])
        )
        found = f1_score(truth[:, label], chosen.predicted_matrix[:, label])
        assert found == pytest.approx(best, abs=1e-12)


def test_a_label_that_no_image_has_keeps_a_half_and_is_left_out_of_the_means() -> None:
    predictions = drawn()
    truth = predictions.label_matrix.copy()
    truth[:, 3] = False
    without = replace(predictions, targets=truth)
    assert choose_thresholds(without)[3] == 0.5
    result = evaluate_labels(without)
    assert result.per_label[3].average_precision is None
    assert result.mean_average_precision.value == pytest.approx(
        average_precision_score(truth[:, :3], predictions.probabilities[:, :3], average="macro")
    )


def test_the_temperature_has_the_lowest_binary_cross_entropy() -> None:
    predictions = drawn(5)
    best = minimize_scalar(
        lambda t: label_losses(predictions, t).mean(), bounds=(0.05, 20), method="bounded"
    )
    assert fit_temperature(predictions) == pytest.approx(best.x, rel=1e-3)


def test_metrics_for_one_label_refuse_several_and_say_what_has_theirs() -> None:
    with pytest.raises(DataError, match=r"one label per image.*evaluate_labels"):
        evaluate(drawn())
    assert isinstance(evaluate_any(drawn()), MultiLabelEvaluation)


def test_what_cannot_be_evaluated_is_refused() -> None:
    predictions = drawn(count=5)
    with pytest.raises(DataError, match="no labels, without which"):
        evaluate_labels(replace(predictions, targets=np.full(5, -1)))
    broken = replace(predictions, logits=predictions.logits * np.float32(np.nan))
    with pytest.raises(DataError, match="not finite"):
        evaluate_labels(broken)
    with pytest.raises(DataError, match="none of the images has a label"):
        evaluate_labels(replace(predictions, targets=np.zeros((5, 4), dtype=bool)))


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    predictions = drawn()
    save_predictions(predictions, tmp_path / "p.safetensors")
    read = load_predictions(tmp_path / "p.safetensors")
    assert read.thresholds == predictions.thresholds
    assert (read.targets == predictions.targets).all()
    assert read.names == predictions.names
