"""Prediction sets: the classes that an image may show, at a coverage that was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import UsageError
from glasshouse.models.conformity import (
    COVERAGE,
    ConformityScores,
    SetMethod,
    SetRule,
    fewest_images,
    require_coverage,
    require_set_method,
)
from glasshouse.wording import level, listed, pluralize

# Names of a set that are written out; the rest is counted.
_NAMED = 6
SEVERAL_LABELS = (
    "Prediction sets are for classifiers that give each image one class; this one gives an image "
    "any number of labels, each by its own threshold."
)
NO_SCORES = (
    "This classifier has no prediction sets: it comes without the conformity scores of held-out "
    "images. `glasshouse train` saves them with a model, unless the validation images are trained "
    "on."
)


@dataclass(frozen=True)
class PredictionSets(Sequence[tuple[str, ...]]):
    """The classes that each of n images may show; ``sets[i]`` has their names, best first.

    members ``(n, k)``: which classes. shares ``(n, k)``: the calibrated probabilities.
    """

    rule: SetRule
    members: NDArray[np.bool_]
    shares: NDArray[np.float64]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, index: int) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[str, ...]]: ...
    def __getitem__(self, index: int | slice) -> tuple[str, ...] | Sequence[tuple[str, ...]]:
        """The names of the classes in a set, the most probable first."""
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        own = np.flatnonzero(self.members[index])
        order = own[np.argsort(-self.shares[index][own], kind="stable")]
        return tuple(self.class_names[k] if self.class_names else str(k) for k in order)

    def __repr__(self) -> str:
        sizes = self.members.sum(axis=1)
        mean = f", {sizes.mean():.2f} classes on average" if len(sizes) else ""
        return f"PredictionSets({len(self)} sets with {self.rule.coverage:.4g} coverage{mean})"

    def words(self, index: int) -> str:
        """A set as text: "cat or dog"; one that is empty or has every class is explained."""
        names = self[index]
        if not names:
            return "no class: none is probable enough, this image is one of the least certain"
        if len(names) == self.members.shape[1] > 1:
            return f"{_joined(names)}: no class can be ruled out{self._why_all()}"
        return _joined(names)

    def _why_all(self) -> str:
        if len(self.rule.unlimited) < self.members.shape[1]:
            return ""
        of = "of each class " if self.rule.class_conditional else ""
        needed = fewest_images(self.rule.coverage)
        return f", at least {needed} calibration images {of}would be needed"


def prediction_sets(
    shares: NDArray[np.float64], class_names: tuple[str, ...], rule: SetRule
) -> PredictionSets:
    """The sets of images by their calibrated probabilities ``(n, k)``."""
    return PredictionSets(rule, rule.members(shares), shares, class_names)


def require_scores(
    scores: ConformityScores | None, thresholds: tuple[float, ...] | None
) -> ConformityScores:
    """The scores; raises UsageError with the reason where a classifier has none."""
    if thresholds is not None:
        raise UsageError(SEVERAL_LABELS)
    if scores is None:
        raise UsageError(NO_SCORES)
    return scores


@dataclass(frozen=True)
class SetRequest:
    """Which prediction sets are asked for; what is left open is decided by `rule_of`."""

    coverage: float | None = None
    method: SetMethod | None = None
    class_conditional: bool = False

    def __post_init__(self) -> None:
        if self.coverage is not None:
            require_coverage(self.coverage)
        if self.method is not None:
            require_set_method(self.method)

    @property
    def is_explicit(self) -> bool:
        """Whether anything was asked for, so that an answer without sets would be an error."""
        return self.coverage is not None or self.method is not None or self.class_conditional


def rule_of(
    scores: ConformityScores | None,
    thresholds: tuple[float, ...] | None = None,
    request: SetRequest | None = None,
) -> SetRule | None:
    """The rule of a request, by default "lac" at 95 %.

    None for a classifier without sets of which none were asked for; raises UsageError, with the
    reason, where they were.
    """
    request = request or SetRequest()
    if not request.is_explicit and (scores is None or thresholds is not None):
        return None
    return require_scores(scores, thresholds).rule(
        request.coverage or COVERAGE,
        request.method or "lac",
        class_conditional=request.class_conditional,
    )


def describe_rule(rule: SetRule, class_names: tuple[str, ...]) -> str:
    """What the sets of a rule promise, and for which classes they cannot say anything."""
    return " ".join(filter(None, (promise_of(rule), shortage_of(rule, class_names))))


def promise_of(rule: SetRule) -> str:
    """What the coverage of a rule means, in a sentence."""
    each = " of each class" if rule.class_conditional else ""
    of = "" if rule.class_conditional else ", over all images rather than for each class or image"
    return (
        f"Of images{each} like the {rule.count:,} it was calibrated on ({rule.source}), at least "
        f"{level(rule.coverage)} have their class in the set{of}."
    )


def shortage_of(rule: SetRule, class_names: tuple[str, ...]) -> str:
    """Which classes are in every set for want of calibration images; empty where none is."""
    few, needed = rule.unlimited, fewest_images(rule.coverage)
    if not few:
        return ""
    if not rule.class_conditional:
        return (
            f"Every set has every class: {pluralize(rule.count, 'calibration image')} are too "
            f"few, at least {needed} are needed."
        )
    names = [class_names[k] if class_names else str(k) for k in few]
    return (
        f"With {level(rule.coverage)} for each class, {_joined(names, 'and')} "
        f"{'is' if len(few) == 1 else 'are'} in every set: fewer than {needed} calibration images "
        "show the class."
    )


def set_line(sets: PredictionSets, index: int) -> str:
    """One image's set in a line: "95 % prediction set: cat or dog"."""
    return f"{level(sets.rule.coverage)} prediction set: {sets.words(index)}"


def set_json(sets: PredictionSets, index: int) -> dict[str, Any]:
    """One image's set as JSON values, as `predict`, `explain` and the service return it."""
    return {
        "coverage": sets.rule.coverage,
        "method": sets.rule.method,
        "class_conditional": sets.rule.class_conditional,
        "classes": list(sets[index]),
        "words": sets.words(index),
    }


def _joined(names: Sequence[str], last: str = "or") -> str:
    """Names as text: "a, b or c"; of many, the first few and how many more."""
    shown = [*names]
    if len(names) > _NAMED + 1:
        shown = [*names[:_NAMED], f"{len(names) - _NAMED} more"]
    return listed(shown, last)
