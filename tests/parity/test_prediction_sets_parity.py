"""Prediction sets compared with those of MAPIE."""

from typing import Any

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from glasshouse.models.conformity import SetMethod, conformity_scores, scores_of

CLASSES, CALIBRATION, ANSWERED = 6, 401, 300
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)


class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator whose inputs are the probabilities themselves."""

    def __init__(self) -> None:
        self.classes_ = np.arange(CLASSES)
        self.is_fitted_ = True

    def fit(self, x: Any, y: Any) -> "Given":
        return self

    def predict_proba(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.asarray(x.argmax(axis=1))


class Ones(np.random.RandomState):
    """Random numbers at the upper end, which is where ours are."""

    def uniform(self, *args: Any, size: Any = None, **kwargs: Any) -> Any:
        return np.ones(size)


def answers(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    logits = random.normal(0, 1.5, (count, CLASSES))
    logits[np.arange(count), labels] += random.normal(1.5, 1.5, count)
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True), labels


def mapie_sets(
    method: str, shares: Any, labels: Any, asked: Any, random_state: Any = None
) -> NDArray[np.bool_]:
    """``(n, classes, levels)``"""
    found = SplitConformalClassifier(
        Given(),
        confidence_level=LEVELS,
        conformity_score=method,
        prefit=True,
        random_state=random_state,
    )
    found.conformalize(shares, labels)
    params = {"include_last_label": "randomized"} if method == "aps" else {}
    return np.asarray(found.predict_set(asked, conformity_score_params=params)[1])


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("seed", range(3))
def test_sets_are_those_of_mapie(method: SetMethod, seed: int) -> None:
    shares, labels = answers(CALIBRATION, seed)
    asked, _ = answers(ANSWERED, 100 + seed)
    scores = conformity_scores(shares, labels, temperature=1.0, source="a test")
    assert scores is not None
    expected = mapie_sets(method, shares, labels, asked, Ones(0))
    for place, level in enumerate(LEVELS):
        np.testing.assert_array_equal(
            scores.rule(level, method).members(asked), expected[:, :, place]
        )


@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset has less labels")
def test_sets_for_each_class_are_those_of_mapie_on_the_images_of_that_class() -> None:
    shares, labels = answers(1501, 5)
    asked, _ = answers(ANSWERED, 105)
    scores = conformity_scores(shares, labels, temperature=1.0, source="a test")
    assert scores is not None
    found = [scores.rule(level, class_conditional=True).members(asked) for level in LEVELS]
    for label in range(CLASSES):
        own = labels == label
        expected = mapie_sets("lac", shares[own], labels[own], asked)
        for place in range(len(LEVELS)):
            np.testing.assert_array_equal(found[place][:, label], expected[:, label, place])


def test_the_penalty_is_that_of_raps_in_mapie() -> None:
    from mapie.conformity_scores import RAPSConformityScore

    shares, labels = answers(CALIBRATION, 7)
    whole = RAPSConformityScore()
    whole.classes, whole.random_state = np.arange(CLASSES), Ones(0)
    reached, ranks = whole.get_true_label_cumsum_proba(labels, shares, whole.classes)
    own = np.take_along_axis(shares, labels[:, None], axis=1)
    expected = whole._regularize_conformity_score(np.array([5]), 0.01, reached - own, ranks)
    found = np.take_along_axis(scores_of(shares, "raps"), labels[:, None], axis=1)
    np.testing.assert_allclose(found, expected[:, :, 0], atol=1e-12)
