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
# How much the appearance of other images may vary more than that of the known ones: as a share of
# each variance, and where the known ones do not vary at all.
_MORE, _SOME = 1e-2, 1e-4
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
class Unit:
    """What a score is measured in: the mean and the standard deviation of validation images."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Rows) -> "Unit":
        """That of scores ``(v,)``; of none, zero and one."""
        if not len(values):
            return cls(0.0, 1.0)
        wide = values.astype(np.float64)
        return cls(float(wide.mean()), max(float(wide.std()), 1e-6))


@dataclass(frozen=True)
class UnknownMeasure:
    """How unusual an image is, and compared with what.

    score: the one that a run uses. features ``(m, d)``: of its training images, at unit length, and
    gaussians: of their classes. looks: of their appearance. units: of the score and of appearance.
    usual ``(v,)``: both together, of validation images, ascending.
    """

    score: UnusualScore
    features: NDArray[np.float16]
    gaussians: ClassGaussians
    looks: ClassGaussians
    units: tuple[Unit, Unit]
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


def fit_looks(looks: Rows) -> ClassGaussians:
    """One Gaussian for the appearance ``(n, d)`` of all training images."""
    wide = looks.astype(np.float64)
    covariance = np.atleast_2d(np.cov(wide, rowvar=False, bias=True))
    variances = np.diagonal(covariance)
    covariance = covariance + np.diag(_MORE * variances + _SOME)
    mean, precision = wide.mean(axis=0, keepdims=True), np.linalg.inv(covariance)
    return ClassGaussians(mean.astype(np.float32), precision.astype(np.float32))


def look_scores(gaussian: ClassGaussians, looks: Rows) -> NDArray[np.float32]:
    """How unusual the appearance of images is ``(n,)``: the log of a Mahalanobis distance."""
    return np.log1p(_mahalanobis(gaussian, looks)).astype(np.float32)


def scored_together(scores: Rows, looks: Rows, units: tuple[Unit, Unit]) -> NDArray[np.float32]:
    """What a score of the network and that of appearance say together, ``(n,)`` each.

    The sum of both in their units, where what is more usual than usual counts as zero, softly: it
    does not make up for what is unusual by the other, as in Fisher's sum of log p-values.
    """
    found = [
        np.logaddexp(0, 2 * (each.astype(np.float64) - unit.mean) / unit.deviation)
        for each, unit in zip((scores, looks), units, strict=True)
    ]
    return (found[0] + found[1]).astype(np.float32)


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
