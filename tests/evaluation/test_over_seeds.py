import numpy as np
import pytest
from scipy import stats

from glasshouse.errors import UsageError
from glasshouse.evaluation.over_seeds import mean_over_seeds, paired_gain


def test_the_interval_over_seeds_is_students() -> None:
    values = np.array([0.71, 0.74, 0.69, 0.73, 0.72])
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    found = mean_over_seeds(values)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.value == pytest.approx(values.mean())


def test_one_seed_has_no_interval_over_seeds() -> None:
    with pytest.raises(UsageError, match="two seeds or more"):
        mean_over_seeds(np.array([0.7]))


def test_with_one_seed_the_gain_has_the_interval_of_a_mean_over_images() -> None:
    random = np.random.default_rng(0)
    first, second = random.integers(0, 2, (2, 1, 400)).astype(float)
    gains = (second - first)[0]
    found = paired_gain(first, second)
    half = stats.norm.ppf(0.975) * gains.std(ddof=1) / np.sqrt(400)
    assert (found.value, found.high - found.value) == pytest.approx((gains.mean(), half))


@pytest.mark.parametrize(("seed_effect", "image_effect"), [(0.0, 1.0), (0.3, 1.0), (0.3, 0.0)])
def test_the_interval_of_the_gain_has_its_nominal_coverage(
    seed_effect: float, image_effect: float
) -> None:
    random = np.random.default_rng(1)
    covered = []
    for _ in range(400):
        by_seed = seed_effect * random.normal(size=(4, 1))
        by_image = image_effect * random.normal(size=(1, 60))
        gains = 0.5 + by_seed + by_image + random.normal(size=(4, 60))
        found = paired_gain(np.zeros((4, 60)), gains)
        covered.append(found.low <= 0.5 <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.995


def test_equal_hits_give_no_gain_and_no_width() -> None:
    hits = np.random.default_rng(0).integers(0, 2, (3, 50)).astype(float)
    found = paired_gain(hits, hits)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(UsageError, match=r"received shape \(3,\)"):
        paired_gain(np.zeros(3), np.zeros(3))


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize(("seed_effect", "image_effect"), [(0.4, 1.0), (1.5, 0.0), (0.0, 0.0)])
def test_a_gain_has_the_interval_of_the_analysis_of_variance(
    level: float, seed_effect: float, image_effect: float
) -> None:
    random = np.random.default_rng(7)
    a, b = 3, 8
    gains = 0.3 + seed_effect * random.normal(size=(a, 1)) + random.normal(size=(a, b))
    gains += image_effect * random.normal(size=(1, b))
    first = random.normal(size=(a, b))
    mean = gains.mean()
    by_seed = b * sum((gains[i].mean() - mean) ** 2 for i in range(a)) / (a - 1)
    by_image = a * sum((gains[:, j].mean() - mean) ** 2 for j in range(b)) / (b - 1)
    rest = sum(
        (gains[i, j] - gains[i].mean() - gains[:, j].mean() + mean) ** 2
        for i in range(a)
        for j in range(b)
    ) / ((a - 1) * (b - 1))
    total = max(by_seed + by_image - rest, by_seed)
    # Satterthwaite 1946: degrees of freedom of a sum of mean squares.
    freedom = total**2 / (
        by_seed**2 / (a - 1) + by_image**2 / (b - 1) + rest**2 / ((a - 1) * (b - 1) - 1)
    )
    half = stats.t.ppf((1 + level) / 2, max(1, freedom)) * np.sqrt(total / (a * b))
    found = paired_gain(first, first + gains, level)
    assert (found.value, found.low, found.high) == pytest.approx((mean, mean - half, mean + half))


@pytest.mark.parametrize("shape", [(0, 5), (3, 1), (2, 2, 2)])
def test_too_few_seeds_or_images_have_no_gain(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="at least one seed and two images"):
        paired_gain(np.zeros(shape), np.zeros(shape))
    assert paired_gain(np.zeros((1, 2)), np.ones((1, 2))).value == 1


def test_an_interval_over_seeds_needs_one_number_per_seed_and_a_level() -> None:
    with pytest.raises(UsageError, match=r"received shape \(2, 2\)"):
        mean_over_seeds(np.zeros((2, 2)))
    for level in (0.0, 1.0, 95):
        with pytest.raises(UsageError, match="level: expected"):
            mean_over_seeds(np.array([0.1, 0.2]), level)
    found = mean_over_seeds(np.array([0.1, 0.2]), 0.5)
    # Student's t of one degree of freedom is Cauchy's: its quartile is 1.
    assert (found.low, found.high) == pytest.approx((0.1, 0.2))
