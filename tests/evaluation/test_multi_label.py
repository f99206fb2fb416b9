"""Metrics of several labels per image, against scikit-learn and SciPy."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

from glasshouse.errors import DataError
from glasshouse.evaluation import multi_label
from glasshouse.evaluation.calibration import fit_temperature
from glasshouse.evaluation.evaluation import evaluate, evaluate_any
from glasshouse.evaluation.intervals import wilson
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


def test_every_count_of_a_label_is_that_of_scikit_learn() -> None:
    predictions = drawn(11)
    truth, found = predictions.label_matrix, predictions.predicted_matrix
    precision, recall, f1, support = precision_recall_fscore_support(truth, found)
    result = evaluate_labels(predictions)
    for k, row in enumerate(result.per_label):
        assert (row.name, row.threshold) == (NAMES[k], (0.5, 0.4, 0.3, 0.2)[k])
        assert row.precision == pytest.approx(precision[k])
        assert row.recall is not None and row.f1 is not None
        assert row.recall == wilson(int((truth & found)[:, k].sum()), int(support[k]))
        assert row.recall.value == pytest.approx(recall[k])
        assert row.f1.value == pytest.approx(f1[k])
        assert row.f1.low < row.f1.value < row.f1.high
        assert row.f1.low == pytest.approx(f1[k], abs=0.3)
    assert result.image_count == 300
    assert result.unlabelled_count == sum(not row.any() for row in truth)
    assert result.chance == pytest.approx(truth.mean())
    rows = Counter(tuple(row) for row in truth.tolist())
    assert result.commonest_share == max(rows.values()) / 300


def test_an_interval_of_f1_is_that_of_resampled_images() -> None:
    predictions = drawn(12, count=150)
    truth, found = predictions.label_matrix, predictions.predicted_matrix
    random = np.random.default_rng(1)
    each = []
    for _ in range(500):
        rows = random.integers(0, 150, 150)
        scores = f1_score(truth[rows], found[rows], average=None, zero_division=0.0)
        each.append(np.where(truth[rows].any(axis=0), scores, np.nan))
    result = evaluate_labels(predictions)
    drawn_scores = np.array(each)
    for k, row in enumerate(result.per_label):
        assert row.f1 is not None
        expected = np.nanquantile(drawn_scores[:, k], [0.025, 0.975])
        assert (row.f1.low, row.f1.high) == pytest.approx(expected, abs=0.06)
    expected = np.quantile(np.nanmean(drawn_scores, axis=1), [0.025, 0.975])
    assert (result.macro_f1.low, result.macro_f1.high) == pytest.approx(expected, abs=0.02)


def test_the_errors_are_those_farthest_from_their_threshold_first() -> None:
    predictions = drawn(13)
    truth, found = predictions.label_matrix, predictions.predicted_matrix
    shares, result = predictions.probabilities, evaluate_labels(predictions)
    wrong = [(row, k) for row in range(300) for k in range(4) if truth[row, k] != found[row, k]]
    limits = (0.5, 0.4, 0.3, 0.2)
    wrong.sort(key=lambda place: -abs(shares[place] - limits[place[1]]))
    assert result.error_count == len(wrong) > 100
    assert len(result.errors) == 100
    for error, (row, k) in zip(result.errors, wrong, strict=False):
        assert (error.id, error.label) == (str(row), NAMES[k])
        assert error.is_missed == truth[row, k]
        assert error.probability == pytest.approx(shares[row, k])


def test_calibration_over_labels_is_that_of_counting() -> None:
    predictions = replace(drawn(14, digits=6), temperature=1.9)
    result = evaluate_labels(predictions)
    for found, temperature in ((result.before, 1.0), (result.after, 1.9)):
        assert found.temperature == temperature
        shares = replace(predictions, temperature=temperature).probabilities
        truth = predictions.label_matrix
        assert found.confidence == pytest.approx(shares.mean())
        assert found.brier == pytest.approx(((shares - truth) ** 2).sum(axis=1).mean())
        assert found.loss == pytest.approx(log_loss(truth.ravel(), shares.ravel()))
        expected = 0.0
        for k in range(15):
            inside = (shares > k / 15) & (shares <= (k + 1) / 15)
            if inside.any():
                expected += inside.mean() * abs(shares[inside].mean() - truth[inside].mean())
        assert found.ece == pytest.approx(expected)
        order = np.argsort(shares.ravel())
        gaps = [
            abs(shares.ravel()[part].mean() - truth.ravel()[part].mean())
            for part in np.split(order, 15)
        ]
        assert found.ece_equal_mass == pytest.approx(np.mean(gaps), abs=1e-3)
    assert (result.loss, result.calibrated_loss) == (result.before.loss, result.after.loss)


def test_a_label_that_is_never_predicted_has_no_precision() -> None:
    predictions = drawn(15)
    result = evaluate_labels(replace(predictions, thresholds=(0.5, 0.4, 0.3, 1.1)))
    row = result.per_label[3]
    assert (row.predicted, row.precision) == (0, None)
    assert row.recall is not None and row.recall.value == 0
    assert row.f1 is not None and row.f1.value == 0
    never = evaluate_labels(replace(predictions, thresholds=(1.1,) * 4))
    assert (never.micro_f1, never.macro_f1.value) == (0, 0)


def test_resamples_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate_labels(drawn(16)).mean_average_precision
    for chunk in (300 * 7, 1):
        monkeypatch.setattr(multi_label, "_CHUNK", chunk)
        found = evaluate_labels(drawn(16)).mean_average_precision
        assert (found.low, found.high) == pytest.approx((whole.low, whole.high), abs=1e-12)


def test_there_are_fewer_resamples_of_more_images() -> None:
    for count, resamples in ((100, 1000), (10_001, 999), (60_000, 200)):
        weights = multi_label._resampled_weights(count)
        assert weights.shape == (resamples, count)
        assert (weights[:3].sum(axis=1) == count).all()


def test_a_threshold_is_half_way_to_the_next_probability_below() -> None:
    def limit(shares: list[float], truth: list[int]) -> float:
        logits = np.log(np.array(shares) / (1 - np.array(shares)))[:, None].astype(np.float32)
        ids = np.arange(len(shares)).astype(str)
        matrix = np.array(truth, dtype=bool)[:, None]
        return choose_thresholds(Predictions(logits, matrix, ids, ("x",), 1.0, (0.5,)))[0]

    assert limit([0.9, 0.6, 0.2], [1, 1, 0]) == pytest.approx(0.4)
    # The lowest of all is half way to 0.
    assert limit([0.9, 0.6, 0.2], [1, 1, 1]) == pytest.approx(0.1)
    assert limit([0.8, 0.6], [1, 0]) == pytest.approx(0.7)
    # One image right of one, and two of four, have the same F1, 2/3: the nearer to a half is kept.
    assert limit([0.95, 0.7, 0.65, 0.45, 0.05], [1, 0, 0, 1, 0]) == pytest.approx(0.25)
    assert limit([0.6, 0.35, 0.3, 0.25, 0.05], [1, 0, 0, 1, 0]) == pytest.approx(0.475)
    assert limit([0.7, 0.7, 0.1], [1, 0, 0]) == pytest.approx(0.4)


def test_the_summary_of_a_result_names_its_metrics() -> None:
    found = evaluate_labels(drawn(17))
    mean, f1 = found.mean_average_precision, found.macro_f1
    assert repr(found) == (
        f"MultiLabelEvaluation(300 images, 4 labels, mean average precision {mean.value:.3f} "
        f"({mean.low:.3f} to {mean.high:.3f}), F1 {f1.value:.3f}, all labels right "
        f"{100 * found.accuracy.value:.1f} %)"
    )


def test_without_images_or_positives_there_is_nothing_to_measure() -> None:
    empty = replace(
        drawn(), logits=np.zeros((0, 4), np.float32), targets=np.zeros((0, 4), bool),
        ids=np.zeros(0, "U1"),
    )  # fmt: skip
    with pytest.raises(DataError, match="no images to evaluate"):
        evaluate_labels(empty)
    nobody = np.zeros(3, dtype=bool)
    assert multi_label.average_precision(nobody, np.arange(3.0)) is None
    logits = drawn(count=5).logits.copy()
    logits[3, 1] = np.inf
    with pytest.raises(DataError, match=r"logits of 1 images are not finite \(first: 3\)"):
        evaluate_labels(replace(drawn(count=5), logits=logits))
