"""Paired comparison of classifiers where an image may have several labels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.special import ndtr

from glasshouse.errors import DataError
from glasshouse.evaluation.compare import align, holm
from glasshouse.evaluation.image_scores import image_scores
from glasshouse.evaluation.intervals import Interval
from glasshouse.evaluation.over_seeds import paired_gain
from glasshouse.models.predict import Predictions

_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class LabelComparison:
    """Two classifiers on the same images, by mean average precision; second minus first.

    p: of the two-sided z-test of the difference, whose variance over images is that of the
    infinitesimal jackknife; p_adjusted: after Holm's correction over all pairs compared.
    """

    first: str
    second: str
    image_count: int
    first_score: Interval
    second_score: Interval
    difference: Interval
    p: float
    p_adjusted: float

    @property
    def verdict(self) -> str:
        """Which one is better, in a sentence; the p-value alone decides."""
        p = "p < 0.001" if self.p_adjusted < 0.001 else f"p = {self.p_adjusted:.3f}"
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


def mean_precision(predictions: Predictions) -> Interval:
    """The mean average precision with the interval that comparisons have."""
    scores = image_scores(predictions)[None]
    return paired_gain(np.zeros_like(scores), scores).within(0, 1)


def _compared(first: Predictions, second: Predictions, names: tuple[str, str]) -> LabelComparison:
    second = align(first, second, names)
    ours, theirs = image_scores(first), image_scores(second)
    difference = paired_gain(ours[None], theirs[None])
    gains = theirs - ours
    error = float(gains.std(ddof=1)) / np.sqrt(len(gains))
    p = float(2 * ndtr(-abs(difference.value) / error)) if error > 0 else 1.0
    return LabelComparison(
        first=names[0],
        second=names[1],
        image_count=len(first),
        first_score=mean_precision(first),
        second_score=mean_precision(second),
        difference=difference.within(-1, 1),
        p=p,
        p_adjusted=p,
    )
