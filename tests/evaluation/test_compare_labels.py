"""Paired comparison by mean average precision."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score

from glasshouse.errors import DataError
from glasshouse.evaluation.compare_labels import LabelComparison, compare_all_labels
from glasshouse.evaluation.intervals import Interval
from glasshouse.models.predict import Predictions
from tests.evaluation.test_image_scores import predictions


def precision(found: Predictions) -> float:
    return float(average_precision_score(found.targets, found.logits))


def test_differences_are_those_of_scikit_learn_and_their_p_value_fits_their_interval() -> None:
    runs = {"a": predictions(200), "b": predictions(200, seed=1), "c": predictions(200, noise=1)}
    found = compare_all_labels(runs)
    assert [(each.first, each.second) for each in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    for each in found:
        gain = precision(runs[each.second]) - precision(runs[each.first])
        assert each.difference.value == pytest.approx(gain)
        assert each.first_score.value == pytest.approx(precision(runs[each.first]))
        assert each.image_count == 200
        error = (each.difference.high - each.difference.low) / (2 * norm.ppf(0.975))
        assert each.p == pytest.approx(2 * norm.sf(abs(gain) / error))
    # Holm: the smallest of three times 3, the next times 2.
    small, middle, _ = sorted(found, key=lambda each: each.p)
    assert small.p_adjusted == pytest.approx(3 * small.p)
    assert middle.p_adjusted == pytest.approx(max(3 * small.p, 2 * middle.p))


def test_labels_and_images_are_compared_as_well() -> None:
    a, b = predictions(200), predictions(200, seed=1)
    (found,) = compare_all_labels({"a": a, "b": b})
    rows = zip(found.per_label, range(3), strict=True)
    for row, label in rows:
        first, second = (
            float(average_precision_score(each.targets[:, label], each.logits[:, label]))
            for each in (a, b)
        )
        assert row.support == a.targets[:, label].sum()
        assert (row.first.value, row.second.value) == pytest.approx((first, second))
        assert row.difference.value == pytest.approx(second - first)
        assert row.difference.low < row.difference.value < row.difference.high
    right = [(each.logits >= 0) == each.targets for each in (a, b)]
    first, second = (each.all(axis=1) for each in right)
    assert [row.id for row in found.only_first_right] == a.ids[first & ~second].tolist()
    assert [row.id for row in found.only_second_right] == a.ids[second & ~first].tolist()
    assert found.both_right_count == (first & second).sum()
    assert found.both_wrong_count == (~first & ~second).sum()
    names = dict(zip(a.ids.tolist(), a.targets.tolist(), strict=True))
    for image in found.both_wrong:
        has = [name for name, own in zip("abc", names[image.id], strict=True) if own]
        assert image.true == (", ".join(has) or "no label") and image.first != image.second


def test_images_and_labels_in_another_order_are_paired() -> None:
    a, b = predictions(100), predictions(100, seed=1)
    rows, columns = np.random.default_rng(0).permutation(100), [2, 0, 1]
    mixed = Predictions(
        b.logits[rows][:, columns], b.targets[rows][:, columns], b.ids[rows], ("c", "a", "b"),
        thresholds=(0.5,) * 3,
    )  # fmt: skip
    assert compare_all_labels({"a": a, "b": mixed}) == compare_all_labels({"a": a, "b": b})


def test_the_same_predictions_do_not_differ() -> None:
    (found,) = compare_all_labels({"a": predictions(50), "b": predictions(50)})
    assert (found.difference.value, found.p) == (0, 1)


def test_what_cannot_be_compared_is_named() -> None:
    several = predictions(3)
    one = Predictions(several.logits, np.array([0, 1, 2]), several.ids, several.class_names)
    with pytest.raises(DataError, match=r"^one gives each image one class"):
        compare_all_labels({"several": several, "one": one})
    other = replace(several, targets=~several.targets)
    with pytest.raises(DataError, match="different labels for 3 images"):
        compare_all_labels({"a": several, "b": other})


@pytest.mark.parametrize(
    ("sign", "p", "expected"),
    [
        (1, 0.01, "new is better than old by 0.200 mean average precision (95 % interval 0.100 to "
         "0.300, p = 0.010, 1,000 images)."),
        (-1, 1e-6, "old is better than new by 0.200 mean average precision (95 % interval 0.100 to "
         "0.300, p < 0.001, 1,000 images)."),
        (-1, 0.05, "No significant difference on 1,000 images: new minus old is -0.200 mean "
         "average precision, with a 95 % interval from -0.300 to -0.100 (p = 0.050). More test "
         "images would narrow it."),
    ],
)  # fmt: skip
def test_the_verdict_names_the_better_one_by_the_adjusted_p_value(
    sign: int, p: float, expected: str
) -> None:
    low, high = sorted((sign * 0.1, sign * 0.3))
    score = Interval(0.5, 0.4, 0.6)
    found = LabelComparison("old", "new", 1000, score, score, Interval(sign * 0.2, low, high), 0, p)
    assert found.verdict == expected
