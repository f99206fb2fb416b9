"""Groups of similar images that are misclassified more often than the rest of their class.

A scan statistic (Kulldorff 1997) over balls in feature space, each image with its nearest
neighbours of the same class, and over the ends of each trait, such as the most blurred.
Permutations of the mistakes within each class say how large the largest statistic is by chance,
which corrects for all that is looked at. Balls need more mistakes than the probabilities announce,
by more than labels drawn from these make: on the side of another class, all are wrong. At ends of
traits, what counts is what the probability of each image's class lacks to one: of few images, it
says more than which are wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from glasshouse.evaluation.intervals import Interval, wilson_of
from glasshouse.models.neighbours import nearest_rows
from glasshouse.rng import derive

PERMUTATIONS, _SAMPLES, _DRAWS = 199, 50, 20
# Of each kind.
_MOST = 10
# Smaller groups are single mistakes; larger ones, or those of half a class, are the class itself.
_SMALLEST, _LARGEST, _STEP = 5, 320, 1.3
# Of two groups: images in common, of all that are in either.
_SAME = 0.5
# The least share of mistakes that is expected, and of right answers, however certain they are.
_LEAST = 0.01
# The log-likelihood ratio that by chance one group in twenty exceeds, were only one looked at.
_CLEAR = 1.92

Counts = NDArray[np.float64]
_Numbers = NDArray[np.floating[Any]]
_Integers = NDArray[np.int64]


@dataclass(frozen=True)
class FailingGroup:
    """Images of one class that are alike and misclassified more often than the rest of it.

    label: the class. trait: that at whose end they are; empty where their features are near each
    other. rows: positions of its images, those in the middle or at the end first. accuracy: with
    its Wilson interval, which leaves out that the group was chosen for its mistakes. rest: the
    accuracy of the other images of the class. p_value: corrected for all groups that were looked
    at. stability: the share of bootstrap samples in which the group is found again. predicted: the
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
    trait: str = ""


def find_failing_groups(
    features: NDArray[np.floating[Any]],
    labels: NDArray[np.int64],
    answers: NDArray[np.int64] | NDArray[np.floating[Any]],
    *,
    traits: Mapping[str, NDArray[np.float64]] | None = None,
    level: float = 0.05,
    seed: int = 0,
) -> tuple[FailingGroup, ...]:
    """The groups with the strongest evidence: by features and by traits in turn.

    features ``(n, d)`` and labels ``(n,)`` of images that were not trained on. answers: their
    predicted labels ``(n,)`` or, better, the probabilities ``(n, k)``, with which groups by
    features are left out that fail no more than these say. traits: more of what an image is,
    ``(n,)`` each. level: largest corrected p-value. Groups that fewer than half of the bootstrap
    samples find again are left out, and those of whose mistakes half are in one before.
    """
    predicted = np.asarray(answers if answers.ndim == 1 else answers.argmax(axis=1), np.int64)
    probabilities = None if answers.ndim == 1 else np.asarray(answers, np.float64)
    seen = _Seen.of(labels, predicted, probabilities)
    random = np.random.default_rng(derive(seed, "failing groups"))
    least = 0.0
    if probabilities is not None and seen.expected is not None:
        least = _usual_surplus(features, probabilities, seen.expected, random)
    kinds = [[_ball_scan(features, rows, seen, least) for rows in seen.classes]]
    if traits:
        kinds.append([_end_scan(traits, rows, seen) for rows in seen.classes])
    found = [_found(scans, level / len(kinds), random) for scans in kinds if scans]
    groups: list[_Found] = []
    for each in chain.from_iterable(zip_longest(*found)):
        if each and not any(_has_most(other.rows, each.rows, seen.wrong) for other in groups):
            groups.append(each)
    corrected = [(each, min(1.0, each.p_value * len(kinds))) for each in groups]
    return tuple(_described(features, labels, predicted, *each) for each in corrected)


@dataclass(frozen=True)
class _Seen:
    """Of n images: wrong, 1 for a mistake; expected, what share of one, if that is known.

    denied: 1 less the probability of its class, or wrong where that is not known. classes: the rows
    of each class in which a group may be found.
    """

    wrong: Counts
    denied: Counts
    expected: Counts | None
    classes: Sequence[_Integers]

    @classmethod
    def of(cls, labels: _Integers, predicted: _Integers, probabilities: Counts | None) -> "_Seen":
        denied = wrong = (labels != predicted).astype(np.float64)
        expected = None
        if probabilities is not None:
            denied = np.clip(1 - probabilities[np.arange(len(labels)), labels], 0, 1)
            expected = _expected(wrong, probabilities.max(axis=1))
        rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        classes = [
            own for own in rows if len(own) >= 2 * _SMALLEST and 0 < wrong[own].sum() < len(own)
        ]
        return cls(wrong, denied, expected, classes)


@dataclass(frozen=True)
class _Found:
    """A group before it is described."""

    rows: _Integers
    trait: str
    p_value: float
    stability: float


@dataclass(frozen=True)
class _Scan:
    """What is looked at in one class of n images: around each of c centres, of each of s sizes.

    rows ``(n,)``: positions of the images. near ``(c, m)``: for each centre the images nearest to
    it, by their places in rows. sizes ``(s,)``. wrong ``(n,)``: 1 for a mistake. errors ``(n,)``:
    what is compared, in 0..1. expected ``(n,)``: mistakes by the probabilities. least: what a
    surplus over these must exceed. traits: that of each centre; none where the centres are the
    images.
    """

    rows: _Integers
    near: _Integers
    sizes: _Integers
    wrong: Counts
    errors: Counts
    expected: Counts | None = None
    least: float = 0.0
    traits: Sequence[str] = ()

    def strengths(
        self,
        weights: Counts | None = None,
        centres: Any = slice(None),
        errors: Counts | None = None,
    ) -> Counts:
        """The log-likelihood ratio of each ball ``(c, s)``; 0 without an excess of errors."""
        errors, near = self.errors if errors is None else errors, self.near[centres]
        sizes = np.broadcast_to(self.sizes.astype(np.float64), (len(near), len(self.sizes)))
        if weights is not None:
            sizes, errors = self._sums(weights, near), errors * weights
        whole = float(len(errors) if weights is None else weights.sum())
        return _ratio(self._sums(errors, near), sizes, float(errors.sum()), whole)

    def order(
        self, strengths: Counts, weights: Counts | None = None, centres: Any = slice(None)
    ) -> Counts:
        """What the balls are ordered by ``(c, s)``, 0 for those that are left out.

        By the surplus of mistakes over those that were announced. Ends of traits by their evidence
        against the rest of the class, as a network that is unsure of blurred images fails on them
        nevertheless; but unsure alone is not wrong, so that they need more mistakes too.
        """
        if self.traits:
            clear = self.strengths(weights, centres, self.wrong) >= _CLEAR
            return np.where(clear, strengths, 0.0)
        if self.expected is None:
            return strengths
        near, ones = self.near[centres], np.ones(len(self.rows)) if weights is None else weights
        inside, announced, sizes = (
            self._sums(each * ones, near)
            for each in (self.wrong, self.expected, np.ones_like(ones))
        )
        surplus = _surplus(inside, announced, sizes)
        return np.where(surplus > self.least, surplus, 0.0)

    def permuted(self, random: np.random.Generator) -> Counts:
        """The strengths of errors that fall on the images of the class by chance."""
        return self.strengths(errors=random.permutation(self.errors))

    def stability(
        self, place: int, members: _Integers, critical: float, random: np.random.Generator
    ) -> float:
        """In which share of bootstrap samples the best ball around a member is the same group."""
        centres = np.array([place]) if self.traits else members
        again = 0
        for _ in range(_SAMPLES):
            drawn = random.integers(0, len(self.rows), len(self.rows))
            weights = np.bincount(drawn, minlength=len(self.rows)).astype(np.float64)
            strengths = self.strengths(weights, centres)
            order = np.where(strengths >= critical, self.order(strengths, weights, centres), 0)
            if order.max() > 0:
                best, size = np.unravel_index(order.argmax(), order.shape)
                again += _are_same(self.near[centres[best], : self.sizes[size]], members)
        return again / _SAMPLES

    def overlapping(self, taken: Counts) -> NDArray[np.bool_]:
        """Which balls have an image that is taken ``(c, s)``."""
        return self._sums(taken, self.near) > 0

    def _sums(self, values: Counts, near: _Integers) -> Counts:
        return values[near].cumsum(axis=1)[:, self.sizes - 1]


def _expected(wrong: Counts, confidence: _Numbers) -> Counts:
    """What the probabilities announce, times one factor with which it is right for all images.

    Without it, any group of a network that is too sure of itself has more mistakes than announced.
    """
    announced = np.maximum(1.0 - confidence.astype(np.float64), _LEAST)
    right: Counts = np.clip(announced * wrong.sum() / announced.sum(), _LEAST, 1 - _LEAST)
    return right


def _usual_surplus(
    features: _Numbers, probabilities: Counts, expected: Counts, random: np.random.Generator
) -> float:
    """The surplus that one class in a run exceeds, on average, where the probabilities are right.

    Of all classes alike: of one with wrong labels that the network learned, draws have them too.
    """
    strongest: list[float] = []
    for _ in range(_DRAWS):
        drawn = _drawn_labels(probabilities, expected, random)
        seen = _Seen.of(drawn, probabilities.argmax(axis=1), probabilities)
        scans = [_ball_scan(features, rows, seen, of_mistakes=True) for rows in seen.classes]
        strongest += [float(scan.order(scan.strengths()).max()) for scan in scans]
    within = 1 - min(1.0, _DRAWS / max(1, len(strongest)))
    return float(np.quantile(strongest, within)) if strongest else 0.0


def _drawn_labels(
    probabilities: Counts, expected: Counts, random: np.random.Generator
) -> _Integers:
    """Labels of which as many are other than predicted as is expected, by their probabilities."""
    predicted, places = probabilities.argmax(axis=1), np.arange(len(probabilities))
    others = probabilities + np.finfo(np.float64).tiny
    others[places, predicted] = 0
    sums = others.cumsum(axis=1)
    other = (random.random(len(sums)) * sums[:, -1])[:, None] < sums
    wrong = random.random(len(sums)) < expected
    return np.asarray(np.where(wrong, other.argmax(axis=1), predicted), np.int64)


def _ball_scan(
    features: _Numbers, rows: _Integers, seen: _Seen, least: float = 0.0, of_mistakes: bool = False
) -> _Scan:
    own, sizes, wrong = features[rows], _sizes(len(rows)), seen.wrong[rows]
    near = nearest_rows(own, own[wrong > 0] if of_mistakes else own, int(sizes[-1])).rows
    expected = None if seen.expected is None else seen.expected[rows]
    return _Scan(rows, near, sizes, wrong, wrong, expected, least)


def _end_scan(traits: Mapping[str, NDArray[np.float64]], rows: _Integers, seen: _Seen) -> _Scan:
    sizes = _sizes(len(rows))
    ends = [
        np.argsort(sign * values[rows], kind="stable")[: sizes[-1]]
        for values in traits.values()
        for sign in (1, -1)
    ]
    names = [name for name in traits for _ in range(2)]
    wrong, denied = seen.wrong[rows], seen.denied[rows]
    return _Scan(rows, np.stack(ends), sizes, wrong, denied, traits=names)


def _sizes(count: int) -> _Integers:
    largest = min(_LARGEST, count // 2)
    steps = 1 + int(np.log(largest / _SMALLEST) / np.log(_STEP))
    return np.unique(np.rint(np.geomspace(_SMALLEST, largest, steps)).astype(np.int64))


def _are_same(rows: _Integers, others: _Integers) -> bool:
    common = len(np.intersect1d(rows, others))
    return common >= _SAME * (len(rows) + len(others) - common)


def _has_most(rows: _Integers, others: _Integers, wrong: Counts) -> bool:
    """Whether at least half of the mistakes among the others are in rows."""
    return bool(2 * wrong[np.intersect1d(rows, others)].sum() >= wrong[others].sum())


def _surplus(inside: Counts, announced: Counts, sizes: Counts) -> Counts:
    """The log-likelihood ratio of ``inside`` mistakes where fewer were ``announced``; else 0."""
    sizes = np.maximum(sizes, 1e-12)
    share, rate = inside / sizes, announced / sizes
    ratio = _likelihood(inside, sizes, share) - _likelihood(inside, sizes, rate)
    return np.where(share > rate, ratio, 0.0)


def _ratio(inside: Counts, sizes: Counts, mistakes: float, whole: float) -> Counts:
    """Kulldorff's log-likelihood ratio of balls with ``inside`` errors among ``sizes`` images."""
    # Sums of fractions are rounded, and may leave slightly less than nothing outside.
    outside, others = np.maximum(mistakes - inside, 0.0), whole - sizes
    sizes, others = np.maximum(sizes, 1e-12), np.maximum(others, 1e-12)
    share, rest = np.minimum(inside / sizes, 1.0), np.minimum(outside / others, 1.0)
    ratio = _likelihood(inside, sizes, share) + _likelihood(outside, others, rest)
    ratio -= _likelihood(mistakes, whole, mistakes / whole)
    return np.where(share > rest, ratio, 0.0)


def _likelihood(hits: Any, among: Any, rate: Any) -> Counts:
    found: Counts = xlogy(hits, rate) + xlogy(among - hits, 1 - rate)
    return found


def _found(scans: list[_Scan], level: float, random: np.random.Generator) -> list[_Found]:
    """The groups of one kind that pass at a level, in their order."""
    by_chance = np.sort(
        [max(scan.permuted(random).max() for scan in scans) for _ in range(PERMUTATIONS)]
    )
    critical = float(np.quantile(by_chance, 1 - level))

    def p_values(strengths: Counts) -> Counts:
        below = np.searchsorted(by_chance, strengths, side="left")
        return (1 + PERMUTATIONS - below) / (1 + PERMUTATIONS)

    found = []
    strengths = [scan.strengths() for scan in scans]
    order = [
        np.where((p_values(own) <= level) & (own > 0), scan.order(own), 0.0)
        for scan, own in zip(scans, strengths, strict=True)
    ]
    for which, place, size in _best_balls(scans, order):
        scan = scans[which]
        members = scan.near[place, : scan.sizes[size]]
        stability = scan.stability(place, members, critical, random)
        if stability >= _SAME:
            p_value = float(p_values(strengths[which][place, size]))
            trait = scan.traits[place] if scan.traits else ""
            found.append(_Found(scan.rows[members], trait, p_value, stability))
    return found


def _best_balls(scans: list[_Scan], order: list[Counts]) -> Iterator[tuple[int, int, int]]:
    """The places of the first balls, scan, centre and size, none of which share an image."""
    taken = [np.zeros(len(scan.rows)) for scan in scans]
    for _ in range(_MOST):
        which = int(np.argmax([each.max() for each in order]))
        scan, own = scans[which], order[which]
        place, size = (int(each) for each in np.unravel_index(own.argmax(), own.shape))
        if own[place, size] == 0:
            return
        yield which, place, size
        taken[which][scan.near[place, : scan.sizes[size]]] = 1
        own[scan.overlapping(taken[which])] = 0


def _described(
    features: _Numbers, labels: _Integers, predicted: _Integers, found: _Found, p_value: float
) -> FailingGroup:
    rows = found.rows
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
        stability=found.stability,
        predicted=int(classes[counts.argmax()]),
        predicted_count=int(counts.max()),
        nearest=int(present[apart.argmin()]),
        trait=found.trait,
    )
