"""Comparisons of runs whose difference was put there."""

from dataclasses import replace

import numpy as np
import pytest

from glasshouse.errors import DataError, UsageError
from glasshouse.evaluation.compare import compare, compare_all, holm, mcnemar
from glasshouse.evaluation.metrics import losses
from glasshouse.models.predict import Predictions


def run_that_is_right(right: str, wrong_answer: int = 2) -> Predictions:
    """An image for each letter: + is right, - is wrong; the labels are 0 and 1 in turn."""
    labels = np.arange(len(right)) % 2
    answers = np.where(np.array(list(right)) == "+", labels, wrong_answer)
    logits = (4 * np.eye(3)[answers]).astype(np.float32)
    ids = np.array([f"image {i:04d}" for i in range(len(right))])
    return Predictions(logits, labels, ids, ("cat", "dog", "fox"))


def test_disagreements_are_listed_in_both_directions() -> None:
    found = compare(run_that_is_right("++--"), run_that_is_right("+-+-"))
    assert [d.id for d in found.only_first_right] == ["image 0001"]
    assert [d.id for d in found.only_second_right] == ["image 0002"]
    assert (found.only_second_right[0].first, found.only_second_right[0].second) == ("fox", "cat")
    assert (found.both_right_count, found.both_wrong_count) == (1, 1)
    assert found.both_wrong == ()


def test_different_wrong_answers_are_disagreements_too() -> None:
    found = compare(run_that_is_right("-+"), run_that_is_right("-+", wrong_answer=1))
    assert [(d.true, d.first, d.second) for d in found.both_wrong] == [("cat", "fox", "dog")]


def test_the_difference_is_second_minus_first() -> None:
    found = compare(run_that_is_right("+" * 50 + "-" * 50), run_that_is_right("+" * 80 + "-" * 20))
    assert found.difference.value == pytest.approx(0.30)
    assert 0.2 < found.difference.low < 0.3 < found.difference.high < 0.4
    assert found.loss_difference.high < 0
    assert found.verdict.startswith("The second is better than the first by 30.00 points")


def test_each_loss_is_at_the_temperature_of_its_own_run() -> None:
    first = replace(run_that_is_right("++-+" * 5), temperature=0.8)
    second = replace(run_that_is_right("+-++" * 5), temperature=2.5)
    expected = losses(second, 2.5).mean() - losses(first, 0.8).mean()
    assert compare(first, second).loss_difference.value == pytest.approx(expected)
    assert compare(second, first).loss_difference.value == pytest.approx(-expected)
    assert abs(expected) > 0.1


def test_the_verdict_names_the_better_run_whichever_comes_first() -> None:
    strong, weak = run_that_is_right("+" * 90 + "-" * 10), run_that_is_right("-" * 90 + "+" * 10)
    found = compare(strong, weak, names=("wide", "basic"))
    assert found.verdict.startswith("wide is better than basic by 80.00 points")


def test_an_insignificant_difference_is_called_so() -> None:
    found = compare(run_that_is_right("+" * 50 + "--+"), run_that_is_right("+" * 50 + "++-"))
    assert found.verdict.startswith("No significant difference on 53 images")
    assert found.p == 1.0


def test_runs_without_any_difference_are_called_so() -> None:
    run = run_that_is_right("+-+")
    assert compare(run, run).verdict.startswith("No difference: both classify the same of")


def test_the_order_of_images_and_classes_does_not_matter() -> None:
    first, second = run_that_is_right("+++--+-+"), run_that_is_right("++--+++-")
    order = np.random.default_rng(0).permutation(8)
    columns = [2, 0, 1]
    mixed = Predictions(
        second.logits[order][:, columns],
        np.argsort(columns)[second.labels[order]],
        second.ids[order],
        tuple(second.class_names[c] for c in columns),
    )
    assert compare(first, mixed) == compare(first, second)


def test_missing_images_are_named_with_the_run_that_lacks_them() -> None:
    whole, part = run_that_is_right("++++"), run_that_is_right("++")
    with pytest.raises(DataError, match="2 images are missing from b: image 0002, image 0003"):
        compare(whole, part, names=("a", "b"))
    with pytest.raises(DataError, match="2 images are missing from a"):
        compare(part, whole, names=("a", "b"))


def test_labels_classes_and_ids_must_fit() -> None:
    run = run_that_is_right("++++")
    with pytest.raises(DataError, match="different labels for 1 images: image 0000"):
        compare(run, replace(run, targets=np.array([1, 1, 0, 1])))
    with pytest.raises(DataError, match="only one of them has the classes fox, wolf"):
        compare(run, replace(run, class_names=("cat", "dog", "wolf")))
    with pytest.raises(DataError, match="must be unique"):
        compare(run, replace(run, ids=np.array(["x", "x", "y", "z"])))


def test_classes_are_compared_with_intervals_and_a_common_correction() -> None:
    first = run_that_is_right("+-" * 40)  # dogs always wrong
    second = run_that_is_right("++" * 40)
    cat, dog = compare(first, second).per_class
    assert (cat.difference.value, cat.p_adjusted) == (0.0, 1.0)
    assert (dog.first.value, dog.second.value, dog.difference.value) == (0.0, 1.0, 1.0)
    assert dog.p_adjusted == pytest.approx(2 * 2 * 0.5**40)
    assert dog.difference.low > 0.8


def test_mcnemar_is_exact_also_for_many_images() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(8, 1) == pytest.approx(2 * 10 / 512)
    assert 0.0 <= mcnemar(0, 50_000) < 1e-300
    assert 0.5 < mcnemar(20_000, 20_050) < 1


def test_holm_multiplies_the_smallest_most_and_never_goes_down() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_several_runs_are_compared_in_pairs_with_correction() -> None:
    runs = {
        "basic": run_that_is_right("+" * 50 + "-" * 10),
        "same": run_that_is_right("+" * 50 + "-" * 10),
        "wide": run_that_is_right("+" * 56 + "-" * 4),
    }
    found = compare_all(runs)
    assert [(c.first, c.second) for c in found] == [
        ("basic", "same"), ("basic", "wide"), ("same", "wide"),
    ]  # fmt: skip
    assert found[1].p == pytest.approx(2 / 64)
    # 0.031 alone would be called a difference; of three pairs it is not.
    assert found[1].p_adjusted == pytest.approx(6 / 64)
    assert found[1].verdict.startswith("No significant difference")


def test_one_run_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="two runs or more, received 1"):
        compare_all({"basic": run_that_is_right("+")})
