import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import arrays
from hypothesis.strategies import floats

from glasshouse.models.neighbours import unit_rows
from glasshouse.models.unusual_scores import UNUSUAL_SCORES, fit_gaussians, unusual_scores


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
