"""How unlike the training images an image is: scores, of which a higher one is more unusual."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp, softmax

from glasshouse.models.neighbours import nearest_rows

UnusualScore = Literal["nearest", "mahalanobis", "energy", "softmax"]
UNUSUAL_SCORES: tuple[UnusualScore, ...] = get_args(UnusualScore)
# Which of the nearest training images counts: one alone may be odd itself.
NEIGHBOUR = 5
# An image is unlike the training images where fewer validation images than this are as unusual.
RARE = 0.05
# Of the mean variance, the least in any direction: features of unit length do not vary in each.
_LEAST = 1e-6

Rows = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ClassGaussians:
    """Where the features of each class lie: means ``(k, d)``, and one shared precision ``(d, d)``.

    Lee et al. 2018.
    """

    means: NDArray[np.float32]
    precision: NDArray[np.float32]


@dataclass(frozen=True)
class UnknownMeasure:
    """How unusual an image is, and compared with what.

    score: the one that a run uses. features ``(m, d)``: of its training images, at unit length, and
    gaussians: of their classes. usual ``(v,)``: the scores of validation images, ascending.
    """

    score: UnusualScore
    features: NDArray[np.float16]
    gaussians: ClassGaussians
    usual: NDArray[np.float32]


def fit_gaussians(features: Rows, groups: NDArray[np.int64]) -> ClassGaussians:
    """Gaussians of features ``(n, d)``, one for each number in groups ``(n,)``.

    features may be in half precision; directions in which they hardly vary count as if they varied
    by a small share of the mean variance.
    """
    present, places = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(present), features.shape[1]))
    np.add.at(sums, places, features.astype(np.float64))
    means = sums / np.bincount(places)[:, None]
    spread = features.astype(np.float64) - means[places]
    covariance = spread.T @ spread / len(features)
    variances, directions = np.linalg.eigh(covariance)
    # Classes whose images are all alike leave nothing to invert.
    least = max(_LEAST * variances.mean(), np.finfo(np.float32).tiny)
    precision = (directions / np.maximum(variances, least)) @ directions.T
    return ClassGaussians(means.astype(np.float32), precision.astype(np.float32))


def unusual_scores(  # noqa: PLR0913 - the last two are optional
    known: Rows,
    gaussians: ClassGaussians,
    features: Rows,
    logits: Rows,
    *,
    several: bool,
    names: Iterable[UnusualScore] = UNUSUAL_SCORES,
    squares: NDArray[np.float32] | None = None,
) -> dict[UnusualScore, NDArray[np.float32]]:
    """Scores ``(n,)`` of features ``(n, d)`` and logits ``(n, k)``; names: which, usually all.

    nearest: the distance to the fifth nearest of the known features ``(m, d)`` (Sun et al. 2022).
    mahalanobis: half the squared distance to the nearest class (Lee et al. 2018). energy: minus the
    log of the sum of the logits' exponentials (Liu et al. 2020). softmax: one minus the largest
    probability (Hendrycks and Gimpel 2017). several: whether an image may have several labels; the
    energies of the labels are then added (Wang et al. 2021). squares: as nearest_rows takes them.
    """
    wide = logits.astype(np.float64)
    if several:
        energy, largest = -np.logaddexp(0, wide).sum(axis=1), expit(wide).max(axis=1)
    else:
        energy, largest = -logsumexp(wide, axis=1), softmax(wide, axis=1).max(axis=1)
    made: Mapping[UnusualScore, Callable[[], Rows]] = {
        "nearest": lambda: nearest_rows(known, features, NEIGHBOUR, squares).distances[:, -1],
        "mahalanobis": lambda: _mahalanobis(gaussians, features),
        "energy": lambda: energy,
        "softmax": lambda: 1 - largest,
    }
    return {name: made[name]().astype(np.float32) for name in names}


def _mahalanobis(gaussians: ClassGaussians, features: Rows) -> Rows:
    rows, precision = features.astype(np.float64), gaussians.precision.astype(np.float64)
    nearest = np.full(len(rows), np.inf)
    for mean in gaussians.means.astype(np.float64):
        apart = rows - mean
        nearest = np.minimum(nearest, np.einsum("nd,nd->n", apart @ precision, apart))
    return nearest / 2
