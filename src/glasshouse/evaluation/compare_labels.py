"""Paired comparison of classifiers where an image may have several labels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.targets import joined_names, names_at
from glasshouse.errors import DataError
from glasshouse.evaluation.compare import Comparison, Disagreement, align, compare_all, holm
from glasshouse.evaluation.image_scores import image_scores, label_scores
from glasshouse.evaluation.intervals import Interval
from glasshouse.evaluation.over_seeds import paired_gain
from glasshouse.models.predict import Predictions
from glasshouse.wording import p_words

Floats = NDArray[np.float64]

_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class LabelDifference:
    """One label: average precision of both, second minus first; p after Holm over the labels."""

    name: str
    support: int
    first: Interval
    second: Interval
    difference: Interval
    p_adjusted: float


@dataclass(frozen=True)
class LabelComparison:
    """Two classifiers on the same images, by mean average precision; second minus first.

    p: of the two-sided z-test of the difference, whose variance over images is that of the
    infinitesimal jackknife; p_adjusted: after Holm's correction over all pairs compared. per_label:
    the labels that occur. An image is right where all its labels are; only_first_right,
    only_second_right: images that are right for one of them. both_wrong: images with two
    different wrong answers.
    """

    first: str
    second: str
    image_count: int
    first_score: Interval
    second_score: Interval
    difference: Interval
    p: float
    p_adjusted: float
    per_label: tuple[LabelDifference, ...] = ()
    both_right_count: int = 0
    both_wrong_count: int = 0
    only_first_right: tuple[Disagreement, ...] = ()
    only_second_right: tuple[Disagreement, ...] = ()
    both_wrong: tuple[Disagreement, ...] = ()

    @property
    def verdict(self) -> str:
        """Which one is better, in a sentence; the p-value alone decides."""
        p = p_words(self.p_adjusted)
        images = f"{self.image_count:,} images"
        value, low, high = self.difference.value, self.difference.low, self.difference.high
        if self.p_adjusted >= _SIGNIFICANT:
            return (
                f"No significant difference on {images}: {self.second} minus {self.first} is "
                f"{value:+.3f} mean average precision, with a 95 % interval from {low:+.3f} to "
                f"{high:+.3f} ({p}). More test images would narrow it."
            )
        better, worse = (self.second, self.first) if value > 0 else (self.first, self.second)
        gain, least, most = (value, low, high) if value > 0 else (-value, -high, -low)
        return (
            f"{better} is better than {worse} by {gain:.3f} mean average precision "
            f"(95 % interval {least:.3f} to {most:.3f}, {p}, {images})."
        )


Comparisons = tuple[Comparison, ...] | tuple[LabelComparison, ...]


def compare_all_labels(runs: Mapping[str, Predictions]) -> tuple[LabelComparison, ...]:
    """Every pair of named runs, in order, with Holm's correction over the pairs.

    Raises DataError when the images, their labels or the class names are not the same.
    """
    alone = [name for name, predictions in runs.items() if not predictions.is_multi_label]
    if alone:
        raise DataError(
            f"{', '.join(alone)} gives each image one class, but others give several labels: "
            "compare classifiers of one kind"
        )
    found = [_compared(runs[a], runs[b], (a, b)) for a, b in combinations(runs, 2)]
    adjusted = holm([comparison.p for comparison in found])
    return tuple(replace(c, p_adjusted=p) for c, p in zip(found, adjusted, strict=True))


def compare_any(runs: Mapping[str, Predictions]) -> Comparisons:
    """Every pair of named runs: by accuracy, or as `compare_all_labels` does."""
    several = any(predictions.is_multi_label for predictions in runs.values())
    return compare_all_labels(runs) if several else compare_all(runs)


def mean_precision(predictions: Predictions) -> Interval:
    """The mean average precision with the interval that comparisons have."""
    scores = image_scores(predictions)[None]
    return paired_gain(np.zeros_like(scores), scores).within(0, 1)


def _compared(first: Predictions, second: Predictions, names: tuple[str, str]) -> LabelComparison:
    second = align(first, second, names)
    ours, theirs = image_scores(first), image_scores(second)
    answers = first.predicted_matrix, second.predicted_matrix
    right, other = ((found == first.label_matrix).all(axis=1) for found in answers)
    differ = (answers[0] != answers[1]).any(axis=1)
    return LabelComparison(
        first=names[0],
        second=names[1],
        image_count=len(first),
        first_score=mean_precision(first),
        second_score=mean_precision(second),
        difference=paired_gain(ours[None], theirs[None]).within(-1, 1),
        p=_p_value(theirs - ours),
        p_adjusted=_p_value(theirs - ours),
        per_label=_label_differences(first, second),
        both_right_count=int((right & other).sum()),
        both_wrong_count=int((~right & ~other).sum()),
        only_first_right=_disagreements(first, answers, right & ~other),
        only_second_right=_disagreements(first, answers, other & ~right),
        both_wrong=_disagreements(first, answers, ~right & ~other & differ),
    )


def _p_value(gains: Floats) -> float:
    """Of the two-sided z-test of a mean of 0, for the gain of each image ``(n,)``."""
    from scipy.special import ndtr

    error = float(gains.std(ddof=1)) / np.sqrt(len(gains))
    return float(2 * ndtr(-abs(gains.mean()) / error)) if error > 0 else 1.0


def _label_differences(first: Predictions, second: Predictions) -> tuple[LabelDifference, ...]:
    zeros = np.zeros((1, len(first)))
    supports = first.label_matrix.sum(axis=0)
    both = zip(label_scores(first), label_scores(second), strict=True)
    found, p_values = [], []
    for label, (ours, theirs) in zip(np.flatnonzero(supports).tolist(), both, strict=True):
        one, other = (paired_gain(zeros, each[None]).within(0, 1) for each in (ours, theirs))
        change = paired_gain(ours[None], theirs[None]).within(-1, 1)
        name, support = first.class_names[label], int(supports[label])
        found.append(LabelDifference(name, support, one, other, change, 1.0))
        p_values.append(_p_value(theirs - ours))
    return tuple(replace(row, p_adjusted=p) for row, p in zip(found, holm(p_values), strict=True))


def _disagreements(
    truth: Predictions,
    answers: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    chosen: NDArray[np.bool_],
) -> tuple[Disagreement, ...]:
    def words(matrix: NDArray[np.bool_], row: int) -> str:
        return joined_names(names_at(matrix, row, truth.class_names))

    matrices = (truth.label_matrix, *answers)
    return tuple(
        Disagreement(str(truth.ids[row]), *(words(each, row) for each in matrices))
        for row in np.flatnonzero(chosen).tolist()
    )
