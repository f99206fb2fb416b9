"""Intervals against figures worked out by hand or published."""

from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binomtest

from glasshouse.errors import UsageError
from glasshouse.evaluation import intervals
from glasshouse.evaluation.intervals import (
    Interval,
    bootstrap,
    difference,
    paired_difference,
    wilson,
    wilson_of,
)


def test_wilson_gives_the_published_interval() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I, 81 of 263.
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


def test_intervals_are_clipped_to_possible_values() -> None:
    assert Interval(0.5, -0.4, 1.4).within(0, 1) == Interval(0.5, 0, 1)
    assert Interval(0.5, 0.4, 0.6).within(0, 1) == Interval(0.5, 0.4, 0.6)


def test_an_interval_is_a_short_text() -> None:
    accuracy = wilson(7204, 10_000)
    assert str(accuracy) == "72.04 % (71.15 to 72.91)"
    assert repr(accuracy) == "Interval(0.7204, 0.7115 to 0.7291)"


def test_wilson_reaches_the_ends_and_stays_inside() -> None:
    assert wilson(0, 20).low == 0.0
    assert wilson(0, 20).high == pytest.approx(0.1611, abs=1e-4)
    assert wilson(20, 20).high == 1.0


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_counts_that_cannot_be(successes: int, n: int) -> None:
    with pytest.raises(UsageError, match=f"received {successes} of {n}"):
        wilson(successes, n)


def test_a_level_outside_0_to_1_is_refused() -> None:
    with pytest.raises(UsageError, match=r"such as 0\.95, received 95"):
        wilson(1, 2, level=95)


def test_newcombe_difference_gives_the_published_interval() -> None:
    # Newcombe 1998, Statistics in Medicine 17:873, table II (a): 56/70 - 48/80.
    found = difference((48, 80), (56, 70))
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)


def test_paired_difference_follows_its_formula() -> None:
    found = paired_difference(5, 15, 100)
    assert found.value == pytest.approx(0.10)
    # (16 - 6) / 102 -+ 1.96 sqrt((22 / 102 - (10 / 102)^2) / 102)
    assert found.low == pytest.approx(0.00994, abs=5e-6)
    assert found.high == pytest.approx(0.18614, abs=5e-6)


def test_paired_difference_refuses_more_counts_than_images() -> None:
    with pytest.raises(UsageError, match="3 and 3 cannot be counts among 5"):
        paired_difference(3, 3, 5)


def test_bootstrap_of_a_mean_agrees_with_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = bootstrap(values, resamples=4000)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_pairing_removes_what_both_have_in_common() -> None:
    generator = np.random.default_rng(1)
    common = generator.normal(0, 10, 300)
    first, second = common + generator.normal(0, 0.1, 300), common + 0.5
    found = bootstrap(second, first)
    assert found.high - found.low < 0.05
    assert found.low < 0.5 < found.high


def test_bootstrap_depends_on_the_seed_and_not_on_the_order() -> None:
    values = np.random.default_rng(2).random(50)
    assert bootstrap(values, seed=4) == bootstrap(values, seed=4)
    assert bootstrap(values, seed=4) != bootstrap(values, seed=5)
    backwards = bootstrap(values[::-1], seed=4)
    assert backwards.low == bootstrap(values, seed=4).low


def test_bootstrap_refuses_unpaired_values() -> None:
    with pytest.raises(UsageError, match="received 3 and 2"):
        bootstrap(np.zeros(3), np.zeros(2))
    with pytest.raises(UsageError, match=r"shape \(n,\), received \(0,\)"):
        bootstrap(np.zeros(0))


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_wilson_is_that_of_scipy_at_any_level(level: float) -> None:
    for n in (1, 2, 7, 50):
        for successes in range(n + 1):
            found = wilson(successes, n, level)
            expected = binomtest(successes, n).proportion_ci(level, method="wilson")
            assert found.value == successes / n
            assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    hits = np.array([True, False, True])
    assert wilson_of(hits, level) == wilson(2, 3, level)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5])
def test_a_level_at_an_end_is_refused(level: float) -> None:
    with pytest.raises(UsageError, match="level: expected a number between 0 and 1"):
        paired_difference(1, 1, 5, level)


def test_a_difference_is_second_minus_first_and_turns_with_them() -> None:
    found, turned = difference((48, 80), (56, 70), 0.9), difference((56, 70), (48, 80), 0.9)
    assert found.value == pytest.approx(56 / 70 - 48 / 80)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    wide = difference((48, 80), (56, 70), 0.99)
    assert wide.low < found.low < found.high < wide.high


def test_a_paired_difference_of_few_images_stays_within_possible_values() -> None:
    for only_first, only_second, n in ((0, 1, 1), (1, 0, 1), (0, 0, 1), (0, 9, 9), (9, 0, 9)):
        found = paired_difference(only_first, only_second, n)
        assert found.value == (only_second - only_first) / n
        assert -1 <= found.low <= found.value <= found.high <= 1
    assert paired_difference(0, 1, 1).high == 1.0
    assert paired_difference(2, 3, 5).value == pytest.approx(0.2)
    for counts in ((0, 0, 0), (-1, 2, 5), (2, -1, 5)):
        with pytest.raises(UsageError, match="cannot be counts among"):
            paired_difference(*counts)


def test_a_bootstrap_in_parts_is_as_wide_as_one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).normal(size=60)
    at_once = bootstrap(values, resamples=1001)
    monkeypatch.setattr(intervals, "_CHUNK", 60 * 100)
    assert len(intervals._resampled_means(values, 1001, 0)) == 1001
    in_parts = bootstrap(values, resamples=1001)
    assert (in_parts.low, in_parts.high) == pytest.approx((at_once.low, at_once.high), abs=0.05)
    monkeypatch.setattr(intervals, "_CHUNK", 1)
    assert len(intervals._resampled_means(values, 7, 0)) == 7


def test_a_bootstrap_has_the_quantiles_of_its_level() -> None:
    values = np.random.default_rng(6).normal(size=2000)
    for level in (0.5, 0.95):
        found = bootstrap(values, level=level, resamples=4000)
        half = NormalDist().inv_cdf((1 + level) / 2) * values.std() / len(values) ** 0.5
        assert found.high - found.low == pytest.approx(2 * half, rel=0.08)
    constant = bootstrap(np.full(10, 0.3))
    assert (constant.value, constant.low, constant.high) == pytest.approx((0.3, 0.3, 0.3))
    with pytest.raises(UsageError, match=r"shape \(n,\), received \(2, 2\)"):
        bootstrap(np.zeros((2, 2)))
