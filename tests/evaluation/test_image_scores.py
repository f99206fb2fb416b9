import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from glasshouse.evaluation.image_scores import image_scores
from glasshouse.evaluation.multi_label import evaluate_labels
from glasshouse.evaluation.over_seeds import paired_gain
from glasshouse.models.predict import Predictions


def predictions(count: int, seed: int = 0, digits: int = 9, noise: float = 2.0) -> Predictions:
    truth = np.random.default_rng(0).random((count, 3)) < (0.2, 0.5, 0.7)
    drawn = np.random.default_rng(seed).normal(0, noise, truth.shape)
    logits = np.round(np.where(truth, 1.0, -1.0) + drawn, digits).astype(np.float32)
    ids = np.array([f"{k}" for k in range(count)])
    return Predictions(logits, truth, ids, ("a", "b", "c"), thresholds=(0.5,) * 3)


@pytest.mark.parametrize("digits", [9, 0])
def test_scores_are_the_metric_and_its_derivative_by_the_weight_of_each_image(digits: int) -> None:
    # digits 0: many equal scores.
    found = predictions(40, digits=digits)
    scores = image_scores(found)

    def metric(weights: np.ndarray) -> float:
        return float(
            np.mean([
                average_precision_score(
                    found.targets[:, k], found.logits[:, k], sample_weight=weights
                )
                for k in range(3)
            ])
        )  # fmt: skip

    ones = np.ones(40)
    assert scores.mean() == pytest.approx(metric(ones), abs=1e-12)
    for row in range(40):
        step = 1e-5 * np.eye(40)[row]
        slope = (metric(ones + step) - metric(ones - step)) / 2e-5
        assert scores[row] - scores.mean() == pytest.approx(40 * slope, abs=1e-6)


def test_the_interval_of_their_mean_is_that_of_a_bootstrap_over_images() -> None:
    found = predictions(600)
    scores = image_scores(found)[None]
    interval = paired_gain(np.zeros_like(scores), scores)
    expected = evaluate_labels(found).mean_average_precision
    assert interval.value == pytest.approx(expected.value, abs=1e-12)
    assert interval.high - interval.low == pytest.approx(expected.high - expected.low, rel=0.1)


def test_with_one_label_each_they_count_right_answers() -> None:
    logits = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    one = Predictions(logits, np.array([0, 1, 1]), np.array(["a", "b", "c"]), ("x", "y"))
    assert image_scores(one).tolist() == [1, 1, 0]
