"""Confidence intervals for metrics measured with several seeds."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import UsageError
from glasshouse.evaluation.intervals import Interval

Numbers = NDArray[np.float64]


def mean_over_seeds(values: Numbers, level: float = 0.95) -> Interval:
    """The mean over ``(seeds,)`` with Student's t-interval (Gosset 1908).

    An interval for the mean over all seeds on these test images, not for a single run. Raises
    UsageError for fewer than two seeds.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise UsageError(
            f"an interval over seeds needs two seeds or more, received shape {values.shape}"
        )
    half = _t(level, len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return _around(float(values.mean()), half)


def paired_gain(first: Numbers, second: Numbers, level: float = 0.95) -> Interval:
    """Mean of second minus first, both ``(seeds, images)``, generalised to other seeds and images.

    Seeds and images are crossed random effects: the variance of the mean follows from a two-way
    analysis of variance, with Satterthwaite's degrees of freedom (1946). With a single seed only
    the choice of images is accounted for, so the interval is too short.
    """
    gains = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    if gains.ndim != 2 or gains.shape[1] < 2 or gains.shape[0] < 1:
        raise UsageError(
            "paired_gain: expected (seeds, images) with at least one seed and two images, "
            f"received shape {gains.shape}"
        )
    seeds, images = gains.shape
    mean = float(gains.mean())
    by_image = _mean_square(gains.mean(axis=0) - mean, seeds, images - 1)
    if seeds == 1:
        half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(by_image / images)
        return _around(mean, half)
    by_seed = _mean_square(gains.mean(axis=1) - mean, images, seeds - 1)
    rest = gains - gains.mean(axis=0) - gains.mean(axis=1, keepdims=True) + mean
    within = _mean_square(rest.ravel(), 1, (seeds - 1) * (images - 1))
    # By chance the estimate may come out too small or negative; the seeds are its lower bound.
    total = max(by_seed + by_image - within, by_seed)
    parts = (by_seed, seeds - 1), (by_image, images - 1), (within, rest.size - seeds - images)
    spread = sum(square**2 / max(freedom, 1) for square, freedom in parts)
    freedom = max(1.0, total**2 / spread) if spread > 0 else 1.0
    return _around(mean, _t(level, freedom) * math.sqrt(total / gains.size))


def _mean_square(deviations: Numbers, weight: int, freedom: int) -> float:
    return weight * float(np.square(deviations).sum()) / freedom


def _t(level: float, freedom: float) -> float:
    if not 0 < level < 1:
        raise UsageError(
            f"level: expected a number between 0 and 1, such as 0.95, received {level}"
        )
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))


def _around(value: float, half: float) -> Interval:
    return Interval(value, value - half, value + half)
