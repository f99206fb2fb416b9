"""Metrics of a handful of predictions, counted by hand."""

from dataclasses import replace

import numpy as np
import pytest

from glasshouse.errors import DataError
from glasshouse.evaluation.metrics import (
    average,
    confused_pairs,
    confusion_matrix,
    hits,
    losses,
    mistake_positions,
    per_class,
    require_valid,
    top_k_hits,
    worst_mistakes,
)
from glasshouse.models.predict import Predictions

# Answers: cat, dog, dog, cat, dog, cat for the truths cat, cat, cat, dog, dog, dog; no fox at all.
SIX = Predictions(
    logits=np.array(
        [[5, 1, 0], [1, 4, 0], [1, 2, 0], [9, 1, 0], [0, 3, 1], [2, 1, 0]], dtype=np.float32
    ),
    targets=np.array([0, 0, 0, 1, 1, 1]),
    ids=np.array(["a", "b", "c", "d", "e", "f"]),
    class_names=("cat", "dog", "fox"),
)


def test_rows_of_the_confusion_matrix_are_true_classes() -> None:
    assert confusion_matrix(SIX).tolist() == [[1, 2, 0], [2, 1, 0], [0, 0, 0]]
    assert hits(SIX).tolist() == [True, False, False, False, True, False]


def test_a_class_without_images_has_no_recall_and_no_precision() -> None:
    cat, dog, fox = per_class(SIX)
    assert (cat.support, cat.predicted) == (3, 3)
    assert cat.recall is not None
    assert cat.recall.value == pytest.approx(1 / 3)
    assert cat.recall.low < 1 / 3 < cat.recall.high
    assert dog.precision == pytest.approx(1 / 3)
    assert (fox.support, fox.recall, fox.precision, fox.f1) == (0, None, None, None)


def test_averages_leave_out_classes_without_images() -> None:
    assert average(SIX, "macro").recall == pytest.approx(1 / 3)
    assert average(SIX, "weighted").f1 == pytest.approx(1 / 3)


def test_ties_count_as_in_the_predicted_class() -> None:
    tied = replace(SIX, logits=np.zeros((6, 3), dtype=np.float32))
    assert top_k_hits(tied, 1).tolist() == hits(tied).tolist()
    assert top_k_hits(tied, 2).all()


def test_confused_pairs_name_true_class_first_and_share_of_it() -> None:
    first, second = confused_pairs(SIX, 5)
    assert (first.true, first.predicted, first.count) == ("cat", "dog", 2)
    assert (second.true, second.predicted) == ("dog", "cat")
    assert first.share == pytest.approx(2 / 3)
    assert len(confused_pairs(SIX, 1)) == 1


def test_the_most_confident_mistake_comes_first() -> None:
    found = worst_mistakes(SIX, 10)
    assert [mistake.id for mistake in found] == ["d", "b", "c", "f"]
    assert (found[0].true, found[0].predicted) == ("dog", "cat")
    assert found[0].probability == pytest.approx(np.exp(9) / (np.exp(9) + np.e + 1))
    assert found[0].probability_of_true == pytest.approx(np.e / (np.exp(9) + np.e + 1))


def test_mistakes_of_probability_one_are_ranked_by_their_margin() -> None:
    sure = replace(SIX, logits=SIX.logits * 30)
    assert [mistake.id for mistake in worst_mistakes(sure, 2)] == ["d", "b"]


def made_up_predictions() -> Predictions:
    labels = np.array([0, 0, 0, 1, 2], dtype=np.int64)
    logits = np.zeros((5, 3), dtype=np.float32)
    for row, (guess, strength) in enumerate([(0, 1), (1, 2), (1, 5), (0, 3), (2, 1)]):
        logits[row, guess] = strength
    return Predictions(logits, labels, np.array(list("abcde")), ("x", "y", "z"))


def test_positions_of_mistakes_are_sorted_by_confidence_within_a_pair_too() -> None:
    predictions = made_up_predictions()
    assert mistake_positions(predictions).tolist() == [2, 3, 1]
    first, second = confused_pairs(predictions, 5)
    assert (first.true, first.predicted, first.count) == ("x", "y", 2)
    assert mistake_positions(predictions, first).tolist() == [2, 1]
    assert (second.true, second.predicted) == ("y", "x")
    assert mistake_positions(predictions, second).tolist() == [3]


def test_equally_confident_mistakes_and_equally_frequent_pairs_keep_their_order() -> None:
    labels = np.array([2, 0, 1, 2, 0, 1], dtype=np.int64)
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    ids = np.array(list("fedcba"))
    tied = Predictions(logits, labels, ids, ("x", "y", "z"))
    assert mistake_positions(tied).tolist() == [0, 1, 2, 3, 4, 5]
    assert [mistake.id for mistake in worst_mistakes(tied, 9)] == list("fedcba")
    pairs = [(pair.true, pair.predicted) for pair in confused_pairs(tied, 9)]
    assert pairs == [("x", "y"), ("y", "z"), ("z", "x")]


def test_losses_survive_huge_logits_and_follow_the_temperature() -> None:
    huge = replace(SIX, logits=SIX.logits * 1e4)
    assert np.isfinite(losses(huge)).all()
    expected = np.log(np.exp(2.5) + np.exp(0.5) + 1) - 2.5
    assert losses(SIX, 2.0)[0] == pytest.approx(expected)


def test_logits_that_are_not_finite_are_refused_by_image() -> None:
    logits = SIX.logits.copy()
    logits[3, 1] = np.nan
    with pytest.raises(DataError, match=r"1 images are not finite \(first: d\)"):
        require_valid(replace(SIX, logits=logits))


def test_labels_and_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="image f has the label 3; expected 0 to 2"):
        require_valid(replace(SIX, targets=np.array([0, 0, 0, 1, 1, 3])))
    with pytest.raises(DataError, match=r"6 images by 2 classes.*\(6, 3\)"):
        require_valid(replace(SIX, class_names=("cat", "dog")))


def test_an_empty_set_is_refused() -> None:
    empty = Predictions(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.zeros(0, "U1"),
                        ("a", "b"))  # fmt: skip
    with pytest.raises(DataError, match="no images"):
        require_valid(empty)


def test_top_k_counts_as_a_stable_sort_does() -> None:
    random = np.random.default_rng(8)
    # Whole numbers, so that many logits are tied.
    logits = random.integers(0, 4, (300, 5)).astype(np.float32)
    labels = random.integers(0, 5, 300)
    many = Predictions(logits, labels, np.arange(300).astype(str), tuple("vwxyz"))
    order = np.argsort(-logits, axis=1, kind="stable")
    for k in range(1, 6):
        expected = [label in row[:k] for row, label in zip(order, labels, strict=True)]
        assert top_k_hits(many, k).tolist() == expected
    assert top_k_hits(many, 1).tolist() == hits(many).tolist()
