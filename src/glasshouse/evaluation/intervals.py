"""Confidence intervals for metrics on a finite test set."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import UsageError
from glasshouse.wording import percentage

# Resampled counts are drawn in chunks of about this many numbers, to bound the memory.
_CHUNK = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A measured value and its confidence interval; ``str`` writes them as percentages."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{percentage(self.value, 2)} ({100 * self.low:.2f} to {100 * self.high:.2f})"

    def __repr__(self) -> str:
        # In its own unit: the difference of two losses is no percentage.
        return f"Interval({self.value:.4g}, {self.low:.4g} to {self.high:.4g})"

    def within(self, least: float, most: float) -> "Interval":
        """Clipped to possible values, which t-intervals of few measurements exceed."""
        return Interval(self.value, max(self.low, least), min(self.high, most))


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """The score interval of a proportion, also good for small n and near 0 and 1 (Wilson 1927).

    All in 0..1. Raises UsageError unless 0 <= successes <= n and n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise UsageError(
            f"wilson: expected 0 <= successes <= n and n >= 1, received {successes} of {n}"
        )
    z = _z(level)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Rounding could leave the share itself just outside at 0 and 1.
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def wilson_of(hits: NDArray[np.bool_], level: float = 0.95) -> Interval:
    """The Wilson interval of the share of True in ``(n,)``."""
    return wilson(int(np.count_nonzero(hits)), len(hits), level)


def bootstrap(
    values: NDArray[np.float64],
    other: NDArray[np.float64] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The bootstrap percentile interval of the mean of ``(n,)`` values (Efron 1979).

    other: makes it the paired interval of the mean of ``values - other``, measured on the same
    images. The same seed gives the same interval, whatever the order of the images.
    """
    sample = np.asarray(values, dtype=np.float64)
    if other is not None:
        if sample.shape != np.shape(other):
            raise UsageError(
                f"a paired bootstrap needs values of the same images, received "
                f"{len(sample)} and {len(other)}"
            )
        sample = sample - np.asarray(other, dtype=np.float64)
    if sample.ndim != 1 or len(sample) == 0:
        raise UsageError(f"bootstrap: expected values of shape (n,), received {sample.shape}")
    means = _resampled_means(sample, resamples, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    mean = float(sample.mean())
    return Interval(mean, min(mean, float(low)), max(mean, float(high)))


def difference(first: tuple[int, int], second: tuple[int, int], level: float = 0.95) -> Interval:
    """Second proportion minus first, on different images; each is (successes, n).

    Newcombe 1998, method 10, which combines the two Wilson intervals.
    """
    a, b = wilson(*first, level), wilson(*second, level)
    value = b.value - a.value
    low = value - math.hypot(b.value - b.low, a.high - a.value)
    return Interval(value, low, value + math.hypot(b.high - b.value, a.value - a.low))


def paired_difference(only_first: int, only_second: int, n: int, level: float = 0.95) -> Interval:
    """Second proportion minus first, on the same n images.

    only_first and only_second count the images on which only one of the two succeeds.
    Bonett and Price 2012: Wald's interval after adding one to each count.
    """
    if n < 1 or min(only_first, only_second) < 0 or only_first + only_second > n:
        raise UsageError(
            f"paired_difference: {only_first} and {only_second} cannot be counts among {n} images"
        )
    first, second = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    half = _z(level) * math.sqrt((first + second - (second - first) ** 2) / (n + 2))
    value = (only_second - only_first) / n
    low, high = max(-1.0, second - first - half), min(1.0, second - first + half)
    return Interval(value, min(value, low), max(value, high))


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise UsageError(
            f"level: expected a number between 0 and 1, such as 0.95, received {level}"
        )
    return NormalDist().inv_cdf((1 + level) / 2)


def _resampled_means(sample: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Means of samples drawn with replacement, ``(resamples,)``.

    The counts of the distinct values are multinomial: for hits and misses, a few numbers per
    resample instead of one per image.
    """
    distinct, counts = np.unique(sample, return_counts=True)
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(distinct))
    means = [
        generator.multinomial(len(sample), counts / len(sample), size=min(rows, resamples - start))
        @ distinct
        / len(sample)
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(means)
