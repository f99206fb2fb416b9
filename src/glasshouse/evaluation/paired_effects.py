"""What an intervention on images does to the answers, against another one on the same images."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from glasshouse.evaluation.compare import holm, mcnemar
from glasshouse.evaluation.intervals import Interval, paired_difference

_LEVEL = 0.95


@dataclass(frozen=True)
class Answers:
    """The answers on ``(n,)`` images: which are correct, and the probability of the true class."""

    hits: NDArray[np.bool_]
    shares: NDArray[np.float64]


@dataclass(frozen=True)
class Effect:
    """What is lost by an intervention, compared with its control, on the same images.

    accuracy, control: with the intervention, and with its control; lost: control minus accuracy,
    with its 95 % interval. lost_probability: that of the true class. p: McNemar's exact test of the
    two; p_adjusted: after Holm's correction over all effects that were measured.
    """

    image_count: int
    accuracy: float
    control: float
    lost: Interval
    lost_probability: Interval
    p: float
    p_adjusted: float


def effect_of(changed: Answers, control: Answers, rows: NDArray[np.bool_] | None = None) -> Effect:
    """What an intervention costs, compared with its control, on these of the images."""
    chosen = np.ones(len(changed.hits), dtype=bool) if rows is None else rows
    hits, others = changed.hits[chosen], control.hits[chosen]
    only_control, only_changed = int((others & ~hits).sum()), int((hits & ~others).sum())
    p = mcnemar(only_control, only_changed)
    return Effect(
        image_count=len(hits),
        accuracy=float(hits.mean()),
        control=float(others.mean()),
        lost=paired_difference(only_changed, only_control, len(hits), _LEVEL),
        lost_probability=mean_interval(control.shares[chosen] - changed.shares[chosen]).within(
            -1, 1
        ),
        p=p,
        p_adjusted=p,
    )


def adjusted(effects: list[Effect]) -> list[Effect]:
    """The same effects with p-values after Holm's correction over all of them."""
    corrected = holm([effect.p for effect in effects])
    return [replace(e, p_adjusted=p) for e, p in zip(effects, corrected, strict=True)]


def mean_interval(values: NDArray[np.float64], level: float = _LEVEL) -> Interval:
    """The mean of ``(n,)`` values and its interval by Student's t; unbounded below two values."""
    from scipy.special import stdtrit

    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, -np.inf, np.inf)
    # A spread of exactly 0 is chance as well: one more value half a unit away bounds it.
    spread = max(float(np.std(values, ddof=1)), 0.5 / len(values))
    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * spread / np.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)
