"""The four scores of how unusual an image is are those of pytorch-ood on the same features."""

import numpy as np
import pytest
import torch
from pytorch_ood import detector

from glasshouse.models.neighbours import unit_rows
from glasshouse.models.unusual_scores import UnusualScore, fit_gaussians, unusual_scores

K, D = 4, 12


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(400) % K
    centres = 2 * random.normal(size=(K, D))
    known = unit_rows(centres[labels] + random.normal(size=(400, D)))
    asked = unit_rows(3 * random.normal(size=(50, D)))
    return known, labels, asked, (4 * random.normal(size=(50, K))).astype(np.float32)


def expected(
    name: UnusualScore, known: np.ndarray, labels: np.ndarray, asked: np.ndarray, logits: np.ndarray
) -> np.ndarray:
    features, targets = torch.from_numpy(known).double(), torch.from_numpy(labels)
    queries, wide = torch.from_numpy(asked).double(), torch.from_numpy(logits).double()
    if name == "nearest":
        found = detector.KNN(None, k=5).fit_features(features, targets).predict_features(queries)
    elif name == "mahalanobis":
        found = detector.Mahalanobis(None).fit_features(features, targets).predict_features(queries)
        # Its covariance is a sum over the images, ours their mean.
        found = found * len(known)
    elif name == "energy":
        found = detector.EnergyBased.score(wide)
    else:
        found = 1 + detector.MaxSoftmax.score(wide)
    return np.asarray(found)


@pytest.mark.parametrize("name", ["nearest", "mahalanobis", "energy", "softmax"])
def test_scores_equal_those_of_pytorch_ood(
    name: UnusualScore, arrays: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
) -> None:
    known, labels, asked, logits = arrays
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        wanted = expected(name, known, labels, asked, logits)
    finally:
        torch.set_default_dtype(before)
    gaussians = fit_gaussians(known, labels)
    found = unusual_scores(known, gaussians, asked, logits, several=False)[name]
    # What is compared and the scores are kept in float32.
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
