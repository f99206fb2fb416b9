import numpy as np
import pytest
from scipy.stats import binom

from glasshouse.evaluation.failing_groups import (
    PERMUTATIONS,
    FailingGroup,
    _drawn_labels,
    _end_scan,
    _has_most,
    _ratio,
    _Seen,
    _surplus,
    find_failing_groups,
)
from glasshouse.models.neighbours import unit_rows


def planted(
    seed: int, error: float = 0.1, group_error: float = 0.9, size: int = 25, count: int = 400
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three classes, of which the second has a group apart from the rest with more mistakes."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), count)
    centres = 3 * random.normal(size=(3, 12))
    features = centres[labels] + random.normal(size=(3 * count, 12))
    group = np.arange(count, count + size)
    features[group] += 2.5 * random.normal(size=12)
    rates = np.full(3 * count, error)
    rates[group] = group_error
    wrong = random.random(3 * count) < rates
    return unit_rows(features), labels, np.where(wrong, (labels + 1) % 3, labels)


def share_of(group: FailingGroup, planted: range) -> float:
    """Images in common, of all that are in either."""
    rows, wanted = set(group.rows.tolist()), set(planted)
    return len(rows & wanted) / len(rows | wanted)


@pytest.mark.parametrize("seed", range(4))
def test_a_planted_group_is_found_with_what_is_true_of_it(seed: int) -> None:
    features, labels, predicted = planted(seed)
    first = find_failing_groups(features, labels, predicted)[0]
    assert share_of(first, range(400, 425)) > 0.6
    assert (first.label, first.predicted) == (1, 2)
    right = labels == predicted
    assert first.accuracy.value == right[first.rows].mean()
    rest = np.setdiff1d(np.arange(400, 800), first.rows)
    assert first.rest == pytest.approx(right[rest].mean())
    assert first.predicted_count == (~right[first.rows]).sum()
    assert first.p_value <= 0.01 and first.stability >= 0.5


def test_groups_share_no_image_and_the_same_seed_finds_the_same() -> None:
    features, labels, predicted = planted(0)
    random = np.random.default_rng(9)
    second = np.arange(900, 930)
    features[second] = unit_rows(features[second] + 2 * random.normal(size=12))
    predicted[second] = 0
    groups = find_failing_groups(features, labels, predicted)
    assert {group.label for group in groups[:2]} == {1, 2}
    rows = np.concatenate([group.rows for group in groups])
    assert len(rows) == len(np.unique(rows))
    again = find_failing_groups(features, labels, predicted)
    assert [group.rows.tolist() for group in again] == [group.rows.tolist() for group in groups]


def test_mistakes_that_fall_anywhere_make_a_group_in_few_of_many_trials() -> None:
    found = 0
    for seed in range(30):
        features, labels, predicted = planted(seed, group_error=0.1, count=60)
        found += bool(find_failing_groups(features, labels, predicted))
    # Of 30 trials at a level of 5 %.
    assert found <= binom.ppf(0.9999, 30, 0.05)


def test_classes_without_mistakes_without_answers_or_with_few_images_have_no_groups() -> None:
    features, labels, _ = planted(0, count=40)
    assert find_failing_groups(features, labels, labels) == ()
    assert find_failing_groups(features, labels, (labels + 1) % 3) == ()
    assert find_failing_groups(features[:9], labels[:9], np.ones(9, np.int64)) == ()


def test_the_ratio_is_that_of_two_binomials_and_zero_without_an_excess() -> None:
    inside, sizes = np.array([8.0, 1.0]), np.array([10.0, 10.0])
    found = _ratio(inside, sizes, 20.0, 100.0)
    wanted = (
        binom.logpmf(8, 10, 0.8) + binom.logpmf(12, 90, 12 / 90)
        - binom.logpmf(8, 10, 0.2) - binom.logpmf(12, 90, 0.2)
    )  # fmt: skip
    np.testing.assert_allclose(found, [wanted, 0])


def test_the_class_that_a_group_lies_nearest_to_is_named() -> None:
    features, labels, predicted = planted(1)
    moved = np.arange(400, 430)
    features[moved] = features[:30]
    predicted[moved] = 0
    first = find_failing_groups(features, labels, predicted)[0]
    assert (first.label, first.nearest, first.predicted) == (1, 0, 0)


def test_p_values_count_the_sets_of_chance_that_are_as_strong_and_themselves() -> None:
    features, labels, predicted = planted(1, group_error=0.1, count=60)
    groups = find_failing_groups(features, labels, predicted, level=1.0)
    p_values = [group.p_value for group in groups]
    assert p_values and p_values == sorted(p_values)
    # Nothing was planted, so chance is as strong many times; never is a p-value zero.
    assert p_values[-1] > 0.05 and p_values[0] >= 1 / (1 + PERMUTATIONS)
    counts = np.array(p_values) * (1 + PERMUTATIONS)
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-9)
    assert counts.max() <= 1 + PERMUTATIONS


def test_a_blurred_end_of_a_class_that_its_features_hide_is_found_by_the_trait() -> None:
    random = np.random.default_rng(3)
    features, labels, predicted = planted(3, group_error=0.1, count=120)
    blurred = np.arange(180, 200)
    predicted[blurred] = 0
    traits = {"brightness": random.normal(size=360), "sharpness": random.normal(size=360)}
    traits["sharpness"][blurred] -= 6
    first = find_failing_groups(features, labels, predicted, traits=traits)[0]
    assert (first.label, first.trait) == (1, "sharpness")
    assert share_of(first, range(180, 200)) > 0.8 and first.p_value <= 0.05
    # Those at the very end come first.
    assert first.rows[0] == traits["sharpness"].argmin()


def test_a_few_images_that_are_all_wrong_do_not_hide_the_broad_end_they_belong_to() -> None:
    random = np.random.default_rng(5)
    features, labels, predicted = planted(3, group_error=0.1, count=120)
    blurred, wrong = np.arange(170, 200), np.arange(170, 190)
    predicted[wrong] = 0
    traits = {"contrast": random.normal(size=360), "sharpness": random.normal(size=360)}
    traits["sharpness"][blurred] -= 6
    traits["contrast"][wrong[:8]] -= 6
    first = find_failing_groups(features, labels, predicted, traits=traits)[0]
    assert first.trait == "sharpness" and share_of(first, range(170, 200)) > 0.8
    assert len(first.rows) > 15


def test_of_two_failing_groups_the_one_whose_mistakes_are_announced_is_left_out() -> None:
    features, labels, predicted = planted(0, size=15, count=120)
    announced = np.arange(280, 320)
    moved = features[announced] + 2 * np.random.default_rng(9).normal(size=12)
    features[announced] = unit_rows(moved - moved.mean(axis=0) + 4 * features[280])
    predicted[announced] = 0
    # The network is too sure of all others, which must not make a group of them.
    confidence = np.full(360, 0.99)
    confidence[120:135], confidence[announced] = 0.9, 0.4
    probabilities = np.full((360, 3), (1 - confidence[:, None]) / 2)
    probabilities[np.arange(360), predicted] = confidence
    unordered = find_failing_groups(features, labels, predicted)
    groups = find_failing_groups(features, labels, probabilities)
    assert [group.label for group in unordered[:2]] == [2, 1]
    assert [group.label for group in groups] == [1]


def test_the_surplus_is_that_of_a_binomial_and_zero_where_the_mistakes_were_announced() -> None:
    found = _surplus(np.array([8.0, 2.0]), np.array([2.0, 2.0]), np.array([10.0, 10.0]))
    wanted = binom.logpmf(8, 10, 0.8) - binom.logpmf(8, 10, 0.2)
    np.testing.assert_allclose(found, [wanted, 0])


def test_labels_are_drawn_wrong_as_often_as_expected_and_by_their_probabilities() -> None:
    probabilities = np.tile([0.7, 0.0, 0.2, 0.1], (20_000, 1))
    drawn = _drawn_labels(probabilities, np.full(20_000, 0.6), np.random.default_rng(0))
    shares = np.bincount(drawn, minlength=4) / 20_000
    np.testing.assert_allclose(shares, [0.4, 0, 0.4, 0.2], atol=0.02)
    certain = _drawn_labels(np.eye(3), np.ones(3), np.random.default_rng(0))
    assert (certain != np.arange(3)).all()


def test_an_end_of_which_the_network_is_only_unsure_is_no_group_but_unsure_and_wrong_is() -> None:
    labels, sharpness = np.zeros(200, np.int64), np.arange(200.0)
    probabilities = np.tile([0.98, 0.02], (200, 1))
    probabilities[:25] = [0.6, 0.4]
    probabilities[[40, 150]] = [0.4, 0.6]
    unsure = _Seen.of(labels, probabilities.argmax(axis=1), probabilities)
    scan = _end_scan({"sharpness": sharpness}, np.arange(200), unsure)
    assert scan.strengths().max() > 5 and scan.order(scan.strengths()).max() == 0
    probabilities[:25:5] = [0.4, 0.6]
    wrong = _Seen.of(labels, probabilities.argmax(axis=1), probabilities)
    scan = _end_scan({"sharpness": sharpness}, np.arange(200), wrong)
    order = scan.order(scan.strengths())
    place, size = np.unravel_index(order.argmax(), order.shape)
    assert place == 0 and 20 <= scan.sizes[size] <= 30


def test_fractions_whose_sums_are_rounded_give_a_number() -> None:
    errors = np.full(10, 0.1)
    found = _ratio(np.array([errors.sum() + 1e-15]), np.array([10.0]), float(errors.sum()), 20.0)
    assert np.isfinite(found).all() and found[0] > 0


def test_a_group_repeats_one_that_has_half_of_its_mistakes_however_many_images_it_adds() -> None:
    wrong = np.zeros(40)
    wrong[:12] = 1
    listed = np.arange(6)
    assert _has_most(listed, np.arange(40), wrong)
    assert not _has_most(listed[:5], np.arange(40), wrong)
    assert not _has_most(np.arange(12, 40), np.arange(40), wrong)
