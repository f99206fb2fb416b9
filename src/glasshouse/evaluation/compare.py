"""Paired comparison of two classifiers on the same images: is the difference significant?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.targets import Targets
from glasshouse.errors import DataError, UsageError
from glasshouse.evaluation.intervals import (
    Interval,
    bootstrap,
    paired_difference,
    wilson,
    wilson_of,
)
from glasshouse.evaluation.metrics import hits, losses, predicted_labels, require_valid
from glasshouse.evaluation.multi_label import require_matrix
from glasshouse.models.predict import Predictions
from glasshouse.wording import first_of, p_words


@dataclass(frozen=True)
class ClassDifference:
    """One class: recall of both, second minus first, and the p-value after Holm's correction."""

    name: str
    support: int
    first: Interval
    second: Interval
    difference: Interval
    p_adjusted: float


@dataclass(frozen=True)
class Disagreement:
    """An image for which the two predict different classes."""

    id: str
    true: str
    first: str
    second: str


@dataclass(frozen=True)
class Comparison:
    """Two classifiers on the same images; differences are second minus first, in 0..1.

    p: McNemar's exact test; p_adjusted: after Holm's correction over all pairs compared.
    loss_difference: of the mean cross-entropy, each at its own temperature; below 0 the second is
    better. only_first_right, only_second_right: images that only one of them classifies
    correctly. both_wrong: images with two different wrong predictions.
    """

    first: str
    second: str
    image_count: int
    first_accuracy: Interval
    second_accuracy: Interval
    difference: Interval
    loss_difference: Interval
    p: float
    p_adjusted: float
    both_right_count: int
    both_wrong_count: int
    only_first_right: tuple[Disagreement, ...]
    only_second_right: tuple[Disagreement, ...]
    both_wrong: tuple[Disagreement, ...]
    per_class: tuple[ClassDifference, ...]
    verdict: str


def compare(
    first: Predictions,
    second: Predictions,
    *,
    names: tuple[str, str] = ("the first", "the second"),
    seed: int = 0,
) -> Comparison:
    """Compare two sets of predictions image by image; order of images and classes may differ.

    Raises DataError when the images, their labels or the class names are not the same.
    """
    second = align(first, second, names)
    right = hits(first), hits(second)
    only_first, only_second = right[0] & ~right[1], right[1] & ~right[0]
    p = mcnemar(int(only_first.sum()), int(only_second.sum()))
    wrong = ~right[0] & ~right[1]
    differ = predicted_labels(first) != predicted_labels(second)
    ours, theirs = losses(first, first.temperature), losses(second, second.temperature)
    comparison = Comparison(
        first=names[0],
        second=names[1],
        image_count=len(first),
        first_accuracy=wilson_of(right[0]),
        second_accuracy=wilson_of(right[1]),
        difference=bootstrap(right[1].astype(float), right[0].astype(float), seed=seed),
        loss_difference=bootstrap(theirs, ours, seed=seed),
        p=p,
        p_adjusted=p,
        both_right_count=int((right[0] & right[1]).sum()),
        both_wrong_count=int(wrong.sum()),
        only_first_right=_disagreements(first, second, only_first),
        only_second_right=_disagreements(first, second, only_second),
        both_wrong=_disagreements(first, second, wrong & differ),
        per_class=_class_differences(first, right),
        verdict="",
    )
    return replace(comparison, verdict=_verdict(comparison))


def compare_all(runs: Mapping[str, Predictions], *, seed: int = 0) -> tuple[Comparison, ...]:
    """Every pair of two or more named runs, in order, with Holm's correction over the pairs."""
    if len(runs) < 2:
        raise UsageError(f"compare needs two runs or more, received {len(runs)}")
    found = [compare(runs[a], runs[b], names=(a, b), seed=seed) for a, b in combinations(runs, 2)]
    adjusted = holm([comparison.p for comparison in found])
    fitted = [replace(c, p_adjusted=p) for c, p in zip(found, adjusted, strict=True)]
    return tuple(replace(c, verdict=_verdict(c)) for c in fitted)


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided exact p-value of McNemar's test (1947, binomial form).

    Null hypothesis: both are correct equally often. The arguments count the images that only one
    of the two classifies correctly.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    if only_first == only_second:
        return 1.0
    # Integers neither round nor overflow, however many images there are.
    ways: int = 1
    tail: int = 1
    for i in range(fewer):
        ways = ways * (n - i) // (i + 1)
        tail += ways
    return min(1.0, float(2 * tail / (1 << n)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted to control the family-wise error rate (Holm 1979)."""
    count, largest = len(p_values), 0.0
    adjusted = [0.0] * count
    for rank, position in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (count - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted


def align(first: Predictions, second: Predictions, names: tuple[str, str]) -> Predictions:
    """The second predictions in the order of images and classes of the first."""
    for predictions in (first, second):
        (require_matrix if predictions.is_multi_label else require_valid)(predictions)
    if set(first.class_names) != set(second.class_names):
        extra = sorted(set(first.class_names) ^ set(second.class_names))
        raise DataError(
            f"{names[0]} and {names[1]} cannot be compared: only one of them has the classes "
            f"{_some(extra)}"
        )
    rows = _positions(first, second, names)
    columns = [second.class_names.index(name) for name in first.class_names]
    thresholds = second.thresholds
    aligned = replace(
        second,
        logits=second.logits[rows][:, columns],
        targets=_reordered(second, columns)[rows],
        ids=second.ids[rows],
        class_names=first.class_names,
        thresholds=None if thresholds is None else tuple(thresholds[k] for k in columns),
    )
    theirs = aligned.label_matrix != first.label_matrix
    differing = first.ids[theirs.any(axis=1)].tolist()
    if differing:
        raise DataError(
            f"{names[0]} and {names[1]} have different labels for {len(differing)} images: "
            f"{_some(differing)}. Evaluate both on the same version of the data."
        )
    return aligned


def _reordered(predictions: Predictions, columns: list[int]) -> Targets:
    """The targets for classes in another order: the column of each in the present one."""
    if predictions.is_multi_label:
        return predictions.label_matrix[:, columns]
    place: NDArray[np.int64] = np.argsort(columns)[predictions.labels]
    return place


def _positions(
    first: Predictions, second: Predictions, names: tuple[str, str]
) -> NDArray[np.int64]:
    """The positions of the first's images in the second."""
    ours, theirs = first.ids.tolist(), second.ids.tolist()
    place = {image: position for position, image in enumerate(theirs)}
    if len(place) < len(theirs) or len(set(ours)) < len(ours):
        raise DataError("image ids must be unique to be compared; one occurs twice")
    problems = [
        f"{len(missing)} images are missing from {name}: {_some(missing)}"
        for name, missing in (
            (names[1], [i for i in ours if i not in place]),
            (names[0], sorted(set(theirs) - set(ours))),
        )
        if missing
    ]
    if problems:
        raise DataError(
            f"{names[0]} and {names[1]} were not evaluated on the same images. "
            + ". ".join(problems)
            + ". Evaluate both on the same source and split."
        )
    return np.array([place[i] for i in ours], dtype=np.int64)


def _class_differences(
    first: Predictions, right: tuple[NDArray[np.bool_], NDArray[np.bool_]]
) -> tuple[ClassDifference, ...]:
    found, p_values = [], []
    for label, name in enumerate(first.class_names):
        own = first.labels == label
        support = int(own.sum())
        if not support:
            continue
        only_first = int((own & right[0] & ~right[1]).sum())
        only_second = int((own & right[1] & ~right[0]).sum())
        recalls = [wilson(int((own & hit).sum()), support) for hit in right]
        change = paired_difference(only_first, only_second, support)
        found.append(ClassDifference(name, support, recalls[0], recalls[1], change, 1.0))
        p_values.append(mcnemar(only_first, only_second))
    return tuple(replace(row, p_adjusted=p) for row, p in zip(found, holm(p_values), strict=True))


def _disagreements(
    first: Predictions, second: Predictions, chosen: NDArray[np.bool_]
) -> tuple[Disagreement, ...]:
    names = first.class_names
    answers = predicted_labels(first), predicted_labels(second)
    return tuple(
        Disagreement(
            str(first.ids[i]), names[first.labels[i]], names[answers[0][i]], names[answers[1][i]]
        )
        for i in np.flatnonzero(chosen).tolist()
    )


def _verdict(comparison: Comparison) -> str:
    low, high = 100 * comparison.difference.low, 100 * comparison.difference.high
    points = 100 * comparison.difference.value
    images = f"{comparison.image_count:,} images"
    p = p_words(comparison.p_adjusted)
    if not comparison.only_first_right and not comparison.only_second_right:
        return f"No difference: both classify the same of {images} correctly."
    # The p-value alone decides, so that the verdict cannot contradict the test shown next to it.
    if comparison.p_adjusted < 0.05:
        better, worse, gain = (
            (comparison.second, comparison.first, (points, low, high))
            if points > 0
            else (comparison.first, comparison.second, (-points, -high, -low))
        )
        return (
            f"{_sentence(better)} is better than {worse} by {gain[0]:.2f} points of accuracy "
            f"(95 % interval {gain[1]:.2f} to {gain[2]:.2f}, {p}, {images})."
        )
    return (
        f"No significant difference on {images}: {comparison.second} minus {comparison.first} "
        f"is {points:+.2f} points, with a 95 % interval from {low:+.2f} to {high:+.2f} ({p}). "
        "More test images or more seeds would narrow it."
    )


def _sentence(name: str) -> str:
    # A run's name keeps its own spelling; only our own words start with a capital.
    return name.replace("the ", "The ", 1) if name in ("the first", "the second") else name


def _some(names: Sequence[str], limit: int = 5) -> str:
    return first_of(names, limit)
