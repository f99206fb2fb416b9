"""Prediction sets on labelled images: how often they contain the true class, and how large."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.evaluation.intervals import Interval, bootstrap, wilson, wilson_of
from glasshouse.evaluation.metrics import require_valid
from glasshouse.models.conformity import ConformityScores, SetMethod, SetRule
from glasshouse.models.predict import Predictions
from glasshouse.models.prediction_sets import prediction_sets, promise_of, shortage_of

# Method, coverage, and whether it is to hold for each class.
_REPORTED: tuple[tuple[SetMethod, float, bool], ...] = (
    ("lac", 0.90, False),
    ("lac", 0.95, False),
    ("lac", 0.95, True),
    ("aps", 0.95, False),
)


@dataclass(frozen=True)
class ClassSets:
    """The sets of one class's images: the share with the class, the mean size; None without any."""

    name: str
    support: int
    coverage: Interval | None
    mean_size: float | None


@dataclass(frozen=True)
class SetMetrics:
    """Prediction sets by one rule on labelled images.

    asked: the coverage of the rule; coverage: the measured share of sets with the true class.
    mean_size: classes per set. size_counts ``(k + 1,)``: sets by their size. promise,
    shortage: sentences on what the rule means.
    """

    asked: float
    method: SetMethod
    class_conditional: bool
    coverage: Interval
    mean_size: Interval
    size_counts: tuple[int, ...]
    per_class: tuple[ClassSets, ...]
    promise: str
    shortage: str

    @property
    def empty_count(self) -> int:
        """Images whose set has no class."""
        return self.size_counts[0]

    @property
    def whole_count(self) -> int:
        """Images whose set has every class."""
        return self.size_counts[-1]


def reported_sets(predictions: Predictions) -> tuple[SetMetrics, ...]:
    """Those of a report; none for predictions of a classifier without conformity scores."""
    scores: ConformityScores | None = predictions.conformity
    if scores is None:
        return ()
    return tuple(
        measure_sets(predictions, scores.rule(coverage, method, class_conditional=is_each))
        for method, coverage, is_each in _REPORTED
    )


def measure_sets(predictions: Predictions, rule: SetRule) -> SetMetrics:
    """Coverage and size of the sets of labelled images; raises DataError as `evaluate` does."""
    require_valid(predictions)
    names, labels = predictions.class_names, predictions.labels
    members = prediction_sets(predictions.probabilities, names, rule).members
    covered = np.take_along_axis(members, labels[:, None], axis=1)[:, 0]
    sizes = members.sum(axis=1)
    counts = np.bincount(sizes, minlength=len(names) + 1)
    return SetMetrics(
        asked=rule.coverage,
        method=rule.method,
        class_conditional=rule.class_conditional,
        coverage=wilson_of(covered),
        mean_size=bootstrap(sizes.astype(np.float64)),
        size_counts=tuple(counts.tolist()),
        per_class=tuple(
            _of_class(name, covered[labels == label], sizes[labels == label])
            for label, name in enumerate(names)
        ),
        promise=promise_of(rule),
        shortage=shortage_of(rule, names),
    )


def _of_class(name: str, covered: NDArray[np.bool_], sizes: NDArray[np.integer]) -> ClassSets:
    if not len(covered):
        return ClassSets(name, 0, None, None)
    coverage = wilson(int(np.count_nonzero(covered)), len(covered))
    return ClassSets(name, len(covered), coverage, float(sizes.mean()))
