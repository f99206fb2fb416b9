"""Metrics compared with independent implementations: scikit-learn, SciPy and a brute-force grid."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from glasshouse.evaluation.calibration import calibration, fit_temperature, reliability_bins
from glasshouse.evaluation.compare import mcnemar
from glasshouse.evaluation.evaluation import evaluate
from glasshouse.evaluation.intervals import wilson
from glasshouse.evaluation.metrics import hits, losses, predicted_labels, top_k_hits
from glasshouse.models.predict import Predictions, probabilities


def draw(n: int = 500, classes: int = 7, seed: int = 0, sharpness: float = 3.0) -> Predictions:
    generator = np.random.default_rng(seed)
    labels = generator.choice(
        classes, n, p=np.arange(1, classes + 1) / np.arange(classes + 1).sum()
    )
    logits = sharpness * (generator.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels])
    names = tuple(f"class {c}" for c in range(classes))
    return Predictions(logits.astype(np.float32), labels, np.arange(n).astype(str), names, 1.7)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_class_metrics_and_averages_are_scikit_learns(seed: int) -> None:
    predictions = draw(seed=seed)
    found = evaluate(predictions)
    answers = predicted_labels(predictions)
    report = sklearn_metrics.classification_report(
        predictions.labels, answers, target_names=predictions.class_names, output_dict=True
    )
    for row in found.per_class:
        expected = report[row.name]
        assert row.recall is not None
        assert (row.precision, row.recall.value, row.f1, row.support) == pytest.approx(
            (expected["precision"], expected["recall"], expected["f1-score"], expected["support"])
        )
    for mean, name in ((found.macro, "macro avg"), (found.weighted, "weighted avg")):
        assert mean.f1 == pytest.approx(report[name]["f1-score"])
        assert mean.precision == pytest.approx(report[name]["precision"])
    assert found.accuracy.value == pytest.approx(report["accuracy"])
    cells = sklearn_metrics.confusion_matrix(predictions.labels, answers)
    assert found.confusion.tolist() == cells.tolist()


def test_top_k_loss_and_brier_are_scikit_learns() -> None:
    predictions = draw()
    shares = probabilities(predictions)
    for k in (1, 3, 5):
        expected = sklearn_metrics.top_k_accuracy_score(predictions.labels, predictions.logits, k=k)
        assert top_k_hits(predictions, k).mean() == pytest.approx(expected)
    found = calibration(predictions, predictions.temperature)
    assert found.loss == pytest.approx(sklearn_metrics.log_loss(predictions.labels, shares))
    brier = sklearn_metrics.brier_score_loss(predictions.labels, shares, scale_by_half=False)
    assert found.brier == pytest.approx(brier)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_reliability_bins_are_scikit_learns(strategy: str) -> None:
    predictions = draw(2000)
    confidence = probabilities(predictions).max(axis=1)
    right, sure = calibration_curve(hits(predictions), confidence, n_bins=15, strategy=strategy)
    bins = [b for b in reliability_bins(predictions, equal_mass=strategy == "quantile") if b.count]
    assert [b.confidence for b in bins] == pytest.approx(sure.tolist())
    assert [b.accuracy.value for b in bins if b.accuracy] == pytest.approx(right.tolist())


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 50), (3, 10), (7032, 10_000)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_is_scipys(successes: int, n: int, level: float) -> None:
    expected = binomtest(successes, n).proportion_ci(level, method="wilson")
    found = wilson(successes, n, level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, 0), (5, 5), (3, 14), (120, 90), (0, 700)])
def test_mcnemar_is_scipys_binomial_test(a: int, b: int) -> None:
    assert mcnemar(a, b) == pytest.approx(binomtest(a, a + b, 0.5).pvalue)


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0, 8.0])
def test_the_temperature_is_the_best_of_a_fine_grid(sharpness: float) -> None:
    predictions = draw(300, sharpness=sharpness)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 4001))
    best = grid[np.argmin([losses(predictions, t).mean() for t in grid])]
    assert fit_temperature(predictions) == pytest.approx(best, rel=2e-3)


def test_the_temperature_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 900)
    inputs = generator.normal(size=(900, 30)) + 0.6 * np.eye(3, 30)[labels]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence is not the point
        model = LogisticRegression(C=1e6, max_iter=200).fit(inputs[:120], labels[:120])
        fitted = CalibratedClassifierCV(FrozenEstimator(model), method="temperature")
        fitted.fit(inputs[120:], labels[120:])
    logits = model.decision_function(inputs[120:]).astype(np.float32)
    predictions = Predictions(logits, labels[120:], np.arange(780).astype(str), ("a", "b", "c"))
    found = replace(predictions, temperature=fit_temperature(predictions))
    assert found.temperature > 1.05
    assert np.allclose(probabilities(found), fitted.predict_proba(inputs[120:]), atol=2e-3)
