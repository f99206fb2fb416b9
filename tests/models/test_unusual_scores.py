import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from hypothesis.strategies import floats

from glasshouse.models.neighbours import unit_rows
from glasshouse.models.unusual_scores import (
    UNUSUAL_SCORES,
    Unit,
    fit_gaussians,
    fit_looks,
    look_scores,
    scored_together,
    unusual_scores,
)


def test_what_lies_apart_is_more_unusual_by_every_score_of_features() -> None:
    random = np.random.default_rng(0)
    known = unit_rows(np.eye(6)[np.arange(60) % 2] + 0.1 * random.normal(size=(60, 6)))
    gaussians = fit_gaussians(known.astype(np.float16), np.arange(60) % 2)
    asked = np.eye(6)[[0, 1, 4]]
    scores = unusual_scores(known, gaussians, asked, np.zeros((3, 2)), several=False)
    for name in ("nearest", "mahalanobis"):
        assert scores[name].argmax() == 2


def test_unsure_logits_are_more_unusual_than_sure_ones() -> None:
    known, asked = np.eye(3), np.eye(3)[:2]
    gaussians = fit_gaussians(known, np.zeros(3, np.int64))
    for several in (False, True):
        logits = np.array([[9.0, -9.0, -9.0], [0.1, 0.0, -0.1]])
        scores = unusual_scores(known, gaussians, asked, logits, several=several)
        assert scores["softmax"][0] < scores["softmax"][1]
        assert scores["energy"][0] < scores["energy"][1]


def test_several_labels_add_their_energies_and_take_the_largest_sigmoid() -> None:
    gaussians = fit_gaussians(np.eye(2), np.zeros(2, np.int64))
    logits = np.array([[0.0, 0.0], [0.0, -50.0]])
    scores = unusual_scores(np.eye(2), gaussians, np.eye(2), logits, several=True)
    np.testing.assert_allclose(scores["energy"], [-2 * np.log(2), -np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(scores["softmax"], [0.5, 0.5])


@given(arrays(np.float16, (7, 3), elements=floats(-2, 2, width=16)))
def test_scores_of_any_features_are_finite_also_of_images_that_are_all_alike(
    features: np.ndarray,
) -> None:
    known = unit_rows(features).astype(np.float16)
    gaussians = fit_gaussians(known, np.array([0, 0, 3, 3, 3, 7, 7]))
    assert gaussians.means.shape == (3, 3)
    scores = unusual_scores(known, gaussians, known, np.zeros((7, 3)), several=False)
    assert all(np.isfinite(scores[name]).all() for name in UNUSUAL_SCORES)


def test_usual_by_one_score_does_not_make_up_for_unusual_by_the_other() -> None:
    unit, scores = Unit.of(np.array([1.0, 3.0])), np.array([2.0, 6.0, 6.0])
    assert unit == Unit(2, 1) and Unit.of(np.empty(0)) == Unit(0, 1)
    assert Unit.of(np.ones(3)).deviation > 0
    found = scored_together(scores, np.array([2.0, 2.0, -90.0]), (unit, unit))
    np.testing.assert_allclose(found, [2 * np.log(2), 8.000335 + np.log(2), 8.000335], rtol=1e-6)
    assert scored_together(scores, scores, (Unit(0, 1), Unit(0, 2)))[1] == pytest.approx(
        18, rel=1e-3
    )


def test_looks_that_never_vary_are_unusual_where_they_do() -> None:
    random = np.random.default_rng(0)
    looks = np.column_stack([random.normal(size=200), np.zeros(200)])
    gaussian = fit_looks(looks)
    scores = look_scores(gaussian, np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 0.5]]))
    assert scores[0] < 0.1 < scores[1] < 2 < scores[2]
    expected = np.log1p((3 - looks[:, 0].mean()) ** 2 / (1.01 * looks[:, 0].var() + 1e-4) / 2)
    assert scores[1] == pytest.approx(expected, rel=1e-4)
