import numpy as np
import pytest
from scipy import stats

from glasshouse.evaluation.paired_effects import Answers, adjusted, effect_of, mean_interval


def answers(hits: list[int], seed: int) -> Answers:
    shares = np.random.default_rng(seed).uniform(size=len(hits))
    return Answers(np.array(hits, dtype=bool), shares)


def test_a_loss_is_positive_and_its_p_value_is_that_of_the_exact_test() -> None:
    # 9 images only the control has right, 2 only the changed ones, 4 both, 3 neither.
    changed = answers([0] * 9 + [1] * 2 + [1] * 4 + [0] * 3, 0)
    control = answers([1] * 9 + [0] * 2 + [1] * 4 + [0] * 3, 1)
    effect = effect_of(changed, control)
    assert (effect.image_count, effect.accuracy, effect.control) == (18, 6 / 18, 13 / 18)
    assert effect.lost.value == pytest.approx(7 / 18)
    assert effect.lost.low < 7 / 18 < effect.lost.high
    assert effect.p == pytest.approx(stats.binomtest(2, 11).pvalue)
    assert effect.lost_probability.value == pytest.approx((control.shares - changed.shares).mean())
    some = np.arange(18) < 9
    assert effect_of(changed, control, some).lost.value == 1
    assert effect_of(control, changed).lost.value == pytest.approx(-7 / 18)


def test_p_values_are_corrected_over_all_effects() -> None:
    changed, control = answers([0] * 8 + [1] * 2, 0), answers([1] * 10, 1)
    found = adjusted([effect_of(changed, control), effect_of(control, control)])
    assert [each.p for each in found] == pytest.approx([stats.binomtest(0, 8).pvalue, 1])
    assert [each.p_adjusted for each in found] == pytest.approx([2 * found[0].p, 1])


@pytest.mark.parametrize("level", [0.95, 0.999])
def test_the_interval_of_a_mean_is_that_of_scipy(level: float) -> None:
    values = np.random.default_rng(2).normal(0.2, 0.4, 30)
    found = mean_interval(values, level)
    wanted = stats.t.interval(level, 29, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(wanted)
    assert found.value == pytest.approx(values.mean())


def test_equal_values_and_a_single_one_are_not_certain() -> None:
    assert mean_interval(np.ones(20)).low < 1
    assert mean_interval(np.ones(1)).high == np.inf
