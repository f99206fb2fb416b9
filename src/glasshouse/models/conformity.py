"""Split conformal prediction: conformity scores of held-out images, and limits that follow.

Angelopoulos and Bates 2021, "A Gentle Introduction to Conformal Prediction".
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import UsageError, did_you_mean

SetMethod = Literal["lac", "aps", "raps"]
SET_METHODS: tuple[SetMethod, ...] = get_args(SetMethod)
COVERAGE = 0.95
# What RAPS adds for each class beyond the first few (Angelopoulos et al. 2021, section 4).
_PENALTY, _FREE_RANKS = 0.01, 5

Shares = NDArray[np.float64]


@dataclass(frozen=True)
class SetRule:
    """Which classes a prediction set has: those whose conformity score is at most their limit.

    limits ``(k,)``: infinite for a class that has too few calibration images to be left out of any
    set. count: calibration images; source: what they were.
    """

    coverage: float
    method: SetMethod
    class_conditional: bool
    limits: tuple[float, ...]
    count: int
    source: str

    def members(self, shares: Shares) -> NDArray[np.bool_]:
        """The classes in the set of each image, ``(n, k)``, for its probabilities ``(n, k)``."""
        found: NDArray[np.bool_] = scores_of(shares, self.method) <= np.asarray(self.limits)
        return found

    @property
    def unlimited(self) -> tuple[int, ...]:
        """Positions of the classes that are in every set, for want of calibration images."""
        return tuple(place for place, limit in enumerate(self.limits) if math.isinf(limit))


@dataclass(frozen=True)
class ConformityScores:
    """What the true classes of n held-out images scored, from which any coverage follows.

    labels ``(n,)``: the true classes. shares: their probabilities. above: the sum of the
    probabilities of all classes ranked higher. ranks: 1 for the most probable class.
    temperature, class_count: those of the classifier, whose scores change with them. source: what
    the images were, as the end of "calibrated on ...".
    """

    labels: NDArray[np.int32]
    shares: Shares
    above: Shares
    ranks: NDArray[np.int32]
    temperature: float
    class_count: int
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    def fits(self, temperature: float, class_count: int) -> bool:
        """Whether sets may follow from them at this temperature; those at another one are wrong."""
        return (self.temperature, self.class_count) == (temperature, class_count)

    def rule(
        self,
        coverage: float = COVERAGE,
        method: SetMethod = "lac",
        *,
        class_conditional: bool = False,
    ) -> SetRule:
        """The rule by which this share of sets contains the true class of its image.

        method: "lac", the smallest sets (Sadinle et al. 2019); "aps" or "raps", adaptive sets,
        which are never empty (Romano et al. 2020; Angelopoulos et al. 2021).
        class_conditional: the share holds for each class on its own (Vovk 2012). Raises UsageError
        for a coverage that is not between 0 and 1.
        """
        require_coverage(coverage)
        require_set_method(method)
        scores = _scores(self.shares, self.above, self.ranks, method)
        if class_conditional:
            own = [scores[self.labels == label] for label in range(self.class_count)]
            limits = tuple(_limit(each, coverage) for each in own)
        else:
            limits = (_limit(scores, coverage),) * self.class_count
        return SetRule(coverage, method, class_conditional, limits, len(self), self.source)


def conformity_scores(
    shares: Shares, labels: NDArray[np.integer[Any]], *, temperature: float, source: str
) -> ConformityScores | None:
    """The scores of held-out images, for probabilities ``(n, k)`` and labels ``(n,)``.

    None without any image. Sorted by label and probability, since the order of the images says
    nothing.
    """
    if not len(labels):
        return None
    own = np.asarray(labels, dtype=np.int64)[:, None]
    above, ranks = _ranked(shares)
    found = np.take_along_axis(shares, own, axis=1)[:, 0]
    order = np.lexsort((found, labels))
    return ConformityScores(
        labels=np.asarray(labels, dtype=np.int32)[order],
        shares=found[order],
        above=np.take_along_axis(above, own, axis=1)[order, 0],
        ranks=np.take_along_axis(ranks, own, axis=1)[order, 0].astype(np.int32),
        temperature=temperature,
        class_count=shares.shape[1],
        source=source,
    )


def scores_of(shares: Shares, method: SetMethod) -> Shares:
    """The conformity score of every class, ``(n, k)``: the lower, the better the class fits."""
    return _scores(shares, *_ranked(shares), method)


def fewest_images(coverage: float) -> int:
    """The number of calibration images below which a set with this coverage has every class."""
    return max(1, math.ceil(round(coverage / (1 - coverage), 9)))


def require_coverage(coverage: float) -> None:
    """Raise UsageError for a coverage that is not between 0 and 1."""
    is_number = isinstance(coverage, (int, float)) and not isinstance(coverage, bool)
    if not is_number or not 0 < coverage < 1:
        hint = f": {coverage:g} % is {coverage / 100:g}" if is_number and 1 < coverage < 100 else ""
        raise UsageError(
            f"coverage: expected a number between 0 and 1, such as 0.95, received {coverage}{hint}"
        )


def require_set_method(method: str) -> None:
    """Raise UsageError for an unknown kind of prediction sets."""
    if method not in SET_METHODS:
        raise UsageError(f"no prediction sets {method!r}. {did_you_mean(str(method), SET_METHODS)}")


def rule_json(rule: SetRule) -> Mapping[str, Any]:
    """A rule as JSON values: one limit, or one per class; null stands for infinity."""
    limits = [None if math.isinf(limit) else limit for limit in rule.limits]
    return {
        "coverage": rule.coverage,
        "method": rule.method,
        "class_conditional": rule.class_conditional,
        "limit": limits if rule.class_conditional else limits[0],
        "calibration_images": rule.count,
        "calibrated_on": rule.source,
    }


def rule_of_json(facts: Mapping[str, Any], class_count: int) -> SetRule:
    """What `rule_json` wrote; raises KeyError, TypeError, ValueError or UsageError for others."""
    require_coverage(facts["coverage"])
    require_set_method(facts["method"])
    given = facts["limit"] if facts["class_conditional"] else [facts["limit"]] * class_count
    limits = tuple(math.inf if limit is None else float(limit) for limit in given)
    if len(limits) != class_count:
        raise ValueError(f"{len(limits)} limits for {class_count} classes")
    return SetRule(
        coverage=facts["coverage"],
        method=facts["method"],
        class_conditional=bool(facts["class_conditional"]),
        limits=limits,
        count=int(facts["calibration_images"]),
        source=str(facts["calibrated_on"]),
    )


def _ranked(shares: Shares) -> tuple[Shares, NDArray[np.int64]]:
    """For each class the probability ranked above it and its rank, from 1, both ``(n, k)``."""
    order = np.argsort(-shares, axis=1, kind="stable")
    best = np.take_along_axis(shares, order, axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(1, shares.shape[1] + 1)[None, :], axis=1)
    above = np.empty_like(shares)
    # Summed rather than subtracted from the whole: it is exactly 0 for the most probable class.
    sums = np.concatenate([np.zeros((len(best), 1)), best.cumsum(axis=1)[:, :-1]], axis=1)
    np.put_along_axis(above, order, sums, axis=1)
    return above, ranks


def _scores(
    shares: Shares, above: Shares, ranks: NDArray[np.integer[Any]], method: SetMethod
) -> Shares:
    if method == "lac":
        return 1.0 - shares
    # The randomised score of the papers at its lower end, the same for every image: sets are then
    # never empty and never random, and cover more than asked where the accuracy alone is higher.
    if method == "aps":
        return above
    penalised: Shares = above + _PENALTY * np.maximum(ranks - _FREE_RANKS, 0)
    return penalised


def _limit(scores: Shares, coverage: float) -> float:
    """The score of rank ceil((n + 1) coverage); infinite where there are fewer scores."""
    # Rounded first: 0.95 * 20 must not become 20 by the last bit of a product.
    rank = math.ceil(round((len(scores) + 1) * coverage, 9))
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else math.inf
