"""Comparisons of runs whose difference was put there."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from glasshouse.errors import DataError, UsageError
from glasshouse.evaluation.compare import compare, compare_all, holm, mcnemar
from glasshouse.evaluation.intervals import paired_difference
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


def test_a_class_without_images_is_left_out_and_those_after_it_are_not() -> None:
    # Of three classes, the first has no image.
    first, second = (
        replace(run, targets=run.labels + 1, logits=np.roll(run.logits, 1, axis=1))
        for run in (run_that_is_right("+-" * 10), run_that_is_right("++" * 10))
    )
    assert [row.name for row in compare(first, second).per_class] == ["dog", "fox"]


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


def noisy_run(seed: int, count: int = 240) -> Predictions:
    """Right on about half of the images of four classes, the last of which has none."""
    generator = np.random.default_rng(seed)
    labels = np.random.default_rng(0).integers(0, 3, count)
    logits = (generator.normal(size=(count, 4)) + 1.2 * np.eye(4)[labels]).astype(np.float32)
    ids = np.array([f"image {i:04d}" for i in range(count)])
    return Predictions(logits, labels, ids, ("ant", "bee", "cow", "none"))


def test_every_count_and_p_value_is_that_of_counting_one_by_one() -> None:
    first, second = noisy_run(1), noisy_run(2)
    found = compare(first, second)
    right = [
        [int(row.argmax()) == label for row, label in zip(run.logits, run.labels, strict=True)]
        for run in (first, second)
    ]
    pairs = list(zip(*right, strict=True))
    assert found.both_right_count == pairs.count((True, True))
    assert found.both_wrong_count == pairs.count((False, False))
    assert len(found.only_first_right) == pairs.count((True, False))
    assert len(found.only_second_right) == pairs.count((False, True))
    alone = pairs.count((True, False)), pairs.count((False, True))
    assert found.p == pytest.approx(binomtest(alone[0], sum(alone)).pvalue)
    assert found.p_adjusted == found.p
    assert found.first_accuracy.value == pytest.approx(np.mean(right[0]))
    assert found.second_accuracy.value == pytest.approx(np.mean(right[1]))
    assert [row.name for row in found.per_class] == ["ant", "bee", "cow"]
    p_values = []
    for label, row in enumerate(found.per_class):
        own = [pair for pair, each in zip(pairs, first.labels, strict=True) if each == label]
        assert row.support == len(own)
        assert row.first.value == pytest.approx(np.mean([pair[0] for pair in own]))
        assert row.second.value == pytest.approx(np.mean([pair[1] for pair in own]))
        alone = own.count((True, False)), own.count((False, True))
        assert min(alone) > 2, "neither count is to be a special case"
        assert row.difference == paired_difference(*alone, len(own))
        p_values.append(binomtest(alone[0], sum(alone)).pvalue)
    assert [row.p_adjusted for row in found.per_class] == pytest.approx(holm(p_values))


def test_each_disagreement_has_the_answers_of_both() -> None:
    first, second = noisy_run(1), noisy_run(2)
    found = compare(first, second)
    names = first.class_names
    listed = [*found.only_first_right, *found.only_second_right, *found.both_wrong]
    place = {image: row for row, image in enumerate(first.ids.tolist())}
    for each in listed:
        row = place[each.id]
        answers = names[first.logits[row].argmax()], names[second.logits[row].argmax()]
        assert (each.true, each.first, each.second) == (names[first.labels[row]], *answers)
        assert each.first != each.second
    differing = first.logits.argmax(axis=1) != second.logits.argmax(axis=1)
    assert len(listed) == differing.sum()


def test_two_runs_are_compared_without_any_correction() -> None:
    runs = {"a": noisy_run(1), "b": noisy_run(2)}
    (found,) = compare_all(runs, seed=3)
    assert found == compare(runs["a"], runs["b"], names=("a", "b"), seed=3)
    assert (found.first, found.second) == ("a", "b")


def test_the_seed_decides_the_intervals() -> None:
    first, second = noisy_run(1), noisy_run(2)
    one, other = compare(first, second, seed=1), compare(first, second, seed=2)
    assert one.difference != other.difference
    assert one.loss_difference != other.loss_difference
    assert one.difference.value == other.difference.value
    assert compare_all({"a": first, "b": second}, seed=1)[0].difference == one.difference


def test_every_error_names_both_runs_in_their_order() -> None:
    run, names = run_that_is_right("+" * 8), ("one", "two")
    changed = replace(run, targets=1 - run.labels)
    with pytest.raises(DataError) as caught:
        compare(run, changed, names=names)
    five = ", ".join(f"image 000{k}" for k in range(5))
    assert str(caught.value) == (
        f"one and two have different labels for 8 images: {five} and 3 more. "
        "Evaluate both on the same version of the data."
    )
    with pytest.raises(DataError) as caught:
        compare(run, replace(run, class_names=("cat", "dog", "wolf")), names=names)
    assert str(caught.value) == (
        "one and two cannot be compared: only one of them has the classes fox, wolf"
    )
    part, rest = run_that_is_right("+" * 3), replace(run, ids=np.char.add("other ", run.ids))
    with pytest.raises(DataError) as caught:
        compare(run, part, names=names)
    assert str(caught.value) == (
        "one and two were not evaluated on the same images. 5 images are missing from two: "
        "image 0003, image 0004, image 0005, image 0006, image 0007. "
        "Evaluate both on the same source and split."
    )
    with pytest.raises(DataError, match=r"8 images are missing from two: .* from one: other im"):
        compare(run, rest, names=names)
    twice = replace(run, ids=np.array([*run.ids[:7], run.ids[0]]))
    for pair in ((run, twice), (twice, run)):
        with pytest.raises(DataError, match="image ids must be unique to be compared"):
            compare(*pair, names=names)


def test_the_verdicts_are_whole_sentences() -> None:
    weak, strong = run_that_is_right("+" * 40 + "-" * 60), run_that_is_right("+" * 60 + "-" * 40)
    better = compare(weak, strong, names=("a", "b"))
    low, high = 100 * better.difference.low, 100 * better.difference.high
    assert better.verdict == (
        f"b is better than a by 20.00 points of accuracy (95 % interval {low:.2f} to {high:.2f}, "
        "p < 0.001, 100 images)."
    )
    worse = compare(strong, weak)
    low, high = -100 * worse.difference.high, -100 * worse.difference.low
    assert worse.verdict == (
        "The first is better than the second by 20.00 points of accuracy (95 % interval "
        f"{low:.2f} to {high:.2f}, p < 0.001, 100 images)."
    )
    assert 0 < low < 20 < high
    close = compare(run_that_is_right("+++-" * 300), run_that_is_right("+++-" * 299 + "++--"))
    assert close.verdict.startswith(
        "No significant difference on 1,200 images: the second minus the first is -0.08 points, "
    )
    assert "(p = 1.000). More test images or more seeds would narrow it." in close.verdict
    same = run_that_is_right("+-" * 600)
    assert compare(same, same).verdict == (
        "No difference: both classify the same of 1,200 images correctly."
    )


def test_a_p_value_of_a_twentieth_or_a_thousandth_is_rounded_down_nowhere() -> None:
    # 6 of 6 images: p = 2 / 64 = 0.031; 5 of 5: p = 0.0625; 11 of 11: p = 0.00098.
    for count, text in ((5, "p = 0.062"), (6, "p = 0.031"), (10, "p = 0.002"), (11, "p < 0.001")):
        run = run_that_is_right("-" * count + "+" * 20), run_that_is_right("+" * (count + 20))
        found = compare(*run)
        assert text in found.verdict
        assert found.verdict.startswith("The second") == (count > 5)
