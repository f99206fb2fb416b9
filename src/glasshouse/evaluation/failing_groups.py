"""Groups of similar images that are answered worse than the rest of their class.

A scan statistic (Kulldorff 1997) over balls in feature space: each image with its nearest
neighbours of the same class. Permutations of the mistakes within each class say how large the
largest statistic is by chance, which corrects for all balls that are looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from glasshouse.evaluation.intervals import Interval, wilson_of
from glasshouse.models.neighbours import nearest_rows
from glasshouse.rng import derive

PERMUTATIONS, _SAMPLES = 199, 50
# Smaller groups are single mistakes; larger ones, or those of half a class, are the class itself.
_SMALLEST, _LARGEST, _STEP = 5, 320, 1.3
# Of two groups: images in common, of all that are in either.
_SAME = 0.5

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class FailingGroup:
    """Images of one class that are near each other and answered worse than the rest of it.

    label: the class. rows: positions of its images, those in the middle first. accuracy: with its
    Wilson interval, which leaves out that the group was chosen for its mistakes. rest: the accuracy
    of the other images of the class. p_value: corrected for all groups that were looked at.
    stability: the share of bootstrap samples in which the group is found again. predicted: the
    most frequent wrong class, and predicted_count its images. nearest: the class whose mean
    features are nearest to those of the group.
    """

    label: int
    rows: NDArray[np.int64]
    accuracy: Interval
    rest: float
    p_value: float
    stability: float
    predicted: int
    predicted_count: int
    nearest: int


def find_failing_groups(
    features: NDArray[np.floating[Any]],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    *,
    level: float = 0.05,
    most: int = 10,
    seed: int = 0,
) -> tuple[FailingGroup, ...]:
    """The groups with the strongest evidence, which share no image; strongest first.

    features ``(n, d)``, labels and predicted ``(n,)`` of images that were not trained on. level:
    largest corrected p-value. Groups that fewer than half of the bootstrap samples find again are
    left out.
    """
    wrong = (labels != predicted).astype(np.float64)
    scans = [
        _Scan.of(features, rows, wrong[rows])
        for rows in (np.flatnonzero(labels == label) for label in np.unique(labels))
        if len(rows) >= 2 * _SMALLEST and 0 < wrong[rows].sum() < len(rows)
    ]
    if not scans:
        return ()
    random = np.random.default_rng(derive(seed, "failing groups"))
    by_chance = np.array(
        [max(scan.permuted(random).max() for scan in scans) for _ in range(PERMUTATIONS)]
    )
    critical = float(np.quantile(by_chance, 1 - level))
    found = []
    for strength, scan, members in _best_balls(scans, most):
        p_value = (1 + int((by_chance >= strength).sum())) / (1 + PERMUTATIONS)
        if p_value > level:
            break
        stability = scan.stability(members, critical, random)
        if stability >= _SAME:
            found.append((scan.rows[members], p_value, stability))
    return tuple(_described(features, labels, predicted, *each) for each in found)


@dataclass(frozen=True)
class _Scan:
    """The balls of one class: around each of its n images, of each of s sizes.

    rows ``(n,)``: positions of the images. near ``(n, m)``: for each its nearest in the class, by
    their places in rows, itself among them. sizes ``(s,)``. wrong ``(n,)``: 1 for a mistake.
    """

    rows: NDArray[np.int64]
    near: NDArray[np.int64]
    sizes: NDArray[np.int64]
    wrong: Counts

    @classmethod
    def of(
        cls, features: NDArray[np.floating[Any]], rows: NDArray[np.int64], wrong: Counts
    ) -> "_Scan":
        own = features[rows]
        largest = min(_LARGEST, len(rows) // 2)
        near = nearest_rows(own, own, largest).rows
        steps = np.geomspace(
            _SMALLEST, largest, 1 + int(np.log(largest / _SMALLEST) / np.log(_STEP))
        )
        return cls(rows, near, np.unique(np.rint(steps).astype(np.int64)), wrong)

    def strengths(self, wrong: Counts, weights: Counts | None = None) -> Counts:
        """The log-likelihood ratio of each ball ``(n, s)``; 0 without an excess of mistakes."""
        sizes = np.broadcast_to(self.sizes.astype(np.float64), (len(self.near), len(self.sizes)))
        if weights is not None:
            sizes, wrong = self._sums(weights), wrong * weights
        whole = float(len(wrong) if weights is None else weights.sum())
        return _ratio(self._sums(wrong), sizes, float(wrong.sum()), whole)

    def permuted(self, random: np.random.Generator) -> Counts:
        """The same for mistakes that fall on the images of the class by chance."""
        return self.strengths(random.permutation(self.wrong))

    def stability(
        self, members: NDArray[np.int64], critical: float, random: np.random.Generator
    ) -> float:
        """In which share of bootstrap samples the best ball around a member is the same group."""
        again = 0
        for _ in range(_SAMPLES):
            drawn = random.integers(0, len(self.rows), len(self.rows))
            weights = np.bincount(drawn, minlength=len(self.rows)).astype(np.float64)
            strengths = self.strengths(self.wrong, weights)[members]
            place, size = np.unravel_index(strengths.argmax(), strengths.shape)
            ball = self.near[members[place], : self.sizes[size]]
            common = len(np.intersect1d(ball, members))
            is_same = common >= _SAME * (len(ball) + len(members) - common)
            again += bool(is_same and strengths.max() >= critical)
        return again / _SAMPLES

    def _sums(self, values: Counts) -> Counts:
        return values[self.near].cumsum(axis=1)[:, self.sizes - 1]


def _ratio(inside: Counts, sizes: Counts, mistakes: float, whole: float) -> Counts:
    """Kulldorff's log-likelihood ratio of balls with ``inside`` mistakes among ``sizes`` images."""
    outside, others = mistakes - inside, whole - sizes
    sizes, others = np.maximum(sizes, 1e-12), np.maximum(others, 1e-12)
    share, rest = inside / sizes, outside / others

    def likelihood(hits: Any, among: Any, rate: Any) -> Counts:
        found: Counts = xlogy(hits, rate) + xlogy(among - hits, 1 - rate)
        return found

    ratio = likelihood(inside, sizes, share) + likelihood(outside, others, rest)
    ratio -= likelihood(mistakes, whole, mistakes / whole)
    return np.where(share > rest, ratio, 0.0)


def _best_balls(scans: list[_Scan], most: int) -> Iterator[tuple[float, _Scan, NDArray[np.int64]]]:
    """Strength, scan and members of the strongest balls, none of which share an image."""
    strengths = [scan.strengths(scan.wrong) for scan in scans]
    taken = [np.zeros(len(scan.rows)) for scan in scans]
    for _ in range(most):
        which = int(np.argmax([each.max() for each in strengths]))
        scan, own = scans[which], strengths[which]
        place, size = np.unravel_index(own.argmax(), own.shape)
        if own[place, size] == 0:
            return
        members = scan.near[place, : scan.sizes[size]]
        yield float(own[place, size]), scan, members
        taken[which][members] = 1
        own[scan._sums(taken[which]) > 0] = 0


def _described(
    features: NDArray[np.floating[Any]],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    rows: NDArray[np.int64],
    p_value: float,
    stability: float,
) -> FailingGroup:
    label = int(labels[rows[0]])
    right = labels == predicted
    others = np.setdiff1d(np.flatnonzero(labels == label), rows)
    classes, counts = np.unique(predicted[rows[~right[rows]]], return_counts=True)
    present = np.unique(labels)
    means = np.stack([features[labels == each].mean(axis=0) for each in present])
    apart = np.linalg.norm(means - features[rows].mean(axis=0), axis=1)
    return FailingGroup(
        label=label,
        rows=rows,
        accuracy=wilson_of(right[rows]),
        rest=float(right[others].mean()),
        p_value=p_value,
        stability=stability,
        predicted=int(classes[counts.argmax()]),
        predicted_count=int(counts.max()),
        nearest=int(present[apart.argmin()]),
    )
