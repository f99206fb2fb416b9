"""Each conclusion of a report, and that none is drawn where nothing was measured."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glasshouse.evaluation.evaluation import evaluate
from glasshouse.evaluation.intervals import wilson
from glasshouse.models.predict import Predictions
from glasshouse.report.conclusions import evaluation_conclusions, training_conclusions


def epochs_of(validation: Sequence[float | None], train: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"epoch": number, "validation_loss": loss, "train_loss": own}
        for number, (loss, own) in enumerate(zip(validation, train, strict=True), start=1)
    ]


FALLING = [1 / n for n in range(1, 11)]
RISING = [1.0, 0.6, 0.5, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9]
LEVEL = [1.0, 0.7, 0.5, 0.45, 0.42, 0.41, 0.4, 0.4, 0.401, 0.4]


def test_a_loss_that_falls_to_the_end_asks_for_longer_training() -> None:
    (said,) = training_conclusions(epochs_of(FALLING, FALLING), 10)
    assert said == (
        "Still improving: the mean validation loss fell from 0.134 to 0.106 over the last 4 "
        "epochs, and the best epoch is the last, 10. Train longer."
    )
    almost = [*FALLING[:8], 0.1, 0.101]
    (said,) = training_conclusions(epochs_of(almost, FALLING), 10)
    assert "the best epoch is 9. Train longer" in said


def test_a_loss_that_rises_while_the_training_loss_falls_is_overfitting() -> None:
    (said,) = training_conclusions(epochs_of(RISING, FALLING), 10)
    assert said.startswith(
        "Overfitting since epoch 4: the validation loss rose from 0.400 to 0.900 while the "
        'training loss fell; keep its weights with train.keep = "best", or try stronger '
        "augmentation."
    )
    (said,) = training_conclusions(epochs_of(RISING, FALLING), 10, "best")
    assert said.endswith("the weights of that epoch were kept. Try stronger augmentation.")


def test_a_loss_that_rises_together_with_the_training_loss_is_no_overfitting() -> None:
    (said,) = training_conclusions(epochs_of(RISING, RISING), 10)
    assert "no clear trend" in said and "Overfitting" not in said


def test_a_level_loss_does_not_ask_for_longer_training() -> None:
    (said,) = training_conclusions(epochs_of(LEVEL, FALLING), 10)
    assert said.startswith("The validation loss has levelled off (0.400, then 0.401")
    assert "Train longer" not in said


def test_early_stopping_is_told_and_never_followed_by_train_longer() -> None:
    first, second = training_conclusions(epochs_of(FALLING, FALLING), 30)
    assert (
        first == "Training stopped early, after 10 of 30 epochs; the weights of epoch 10 were kept."
    )
    assert "Train longer" not in second


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_epochs_are_no_trend(count: int) -> None:
    (said,) = training_conclusions(epochs_of(FALLING[:count], FALLING[:count]), count)
    assert said.startswith(f"Only {count} epoch") and "too few" in said


def test_without_a_measured_loss_nothing_is_concluded() -> None:
    assert training_conclusions([], 10) == ()
    assert training_conclusions(epochs_of([None, float("nan")], [1, 1]), 2) == ()


def predictions_of(labels: object, answers: object, sureness: float = 9.0) -> Predictions:
    own, guesses = np.asarray(labels), np.asarray(answers)
    count = int(own.max()) + 1
    logits = (sureness * np.eye(count)[guesses]).astype(np.float32)
    ids = np.array([f"{i}" for i in range(len(own))])
    return Predictions(logits, own, ids, tuple("abcdef"[:count]))


def said_of(labels: object, answers: object, sureness: float = 9.0) -> str:
    return " ".join(evaluation_conclusions(evaluate(predictions_of(labels, answers, sureness))))


LABELS = np.arange(1000) % 4


def with_mistakes(counts: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Answers in which this many images of each class are taken for the next class."""
    answers = LABELS.copy()
    for label, count in enumerate(counts):
        answers[np.flatnonzero(label == LABELS)[:count]] = (label + 1) % 4
    return answers


def test_one_class_with_most_of_the_mistakes_is_named_with_its_rival() -> None:
    said = said_of(LABELS, with_mistakes([60, 8, 8, 4]))
    assert (
        "One class drives the errors: a has 75 % of the mistakes and 25 % of the images; it is "
        "most often predicted as b (60 images)." in said
    )
    assert "drives" not in said_of(LABELS, with_mistakes([20, 20, 20, 20]))


def test_few_or_no_mistakes_are_no_ground_for_a_difficult_class() -> None:
    assert "only 5 mistakes on the test split, too few" in said_of(LABELS, with_mistakes([5]))
    assert "There are no mistakes on the test split." in said_of(LABELS, LABELS)
    # Nine images of the class: its recall is hardly known.
    labels = np.array([0] * 9 + [1] * 91)
    assert "drives" not in said_of(labels, np.array([1] * 9 + [1] * 86 + [0] * 5))


def test_an_accuracy_below_or_near_the_baseline_is_called_that() -> None:
    labels = np.array([0] * 80 + [1] * 20)
    assert "Worse than the baseline: always predicting" in said_of(labels, 1 - labels)
    assert "Not measurably better than the baseline" in said_of(labels, np.zeros(100, int))
    assert "baseline" not in said_of(LABELS, LABELS)


def test_a_small_test_split_is_told_how_little_it_shows() -> None:
    small = said_of(LABELS[:40], with_mistakes([2, 2, 2, 2])[:40])
    assert "With 40 test images, the accuracy is known to about ±" in small
    assert "test images, the accuracy is known" not in said_of(LABELS, LABELS)


def test_probabilities_are_said_to_agree_only_where_they_agree_with_the_accuracy() -> None:
    answers = with_mistakes([60, 60, 60, 60])
    assert "It is overconfident, also after calibration" in said_of(LABELS, answers)
    assert "It is underconfident" in said_of(LABELS, LABELS, 1.0)
    evaluation = evaluate(predictions_of(LABELS, answers))
    fitting = replace(evaluation, after=replace(evaluation.after, confidence=0.76))
    assert any(
        "agree with the accuracy, within the confidence interval" in said
        for said in evaluation_conclusions(fitting)
    )
    assert evaluation.accuracy == wilson(760, 1000)


@pytest.mark.parametrize(("kept", "number"), [("best", 4), ("last", 6)])
def test_an_early_end_names_the_epoch_whose_weights_were_kept(kept: str, number: int) -> None:
    losses = [1.0, 0.8, 0.7, 0.6, 0.7, 0.8]
    first = training_conclusions(epochs_of(losses, losses), 30, kept)[0]
    assert first.endswith(f"the weights of epoch {number} were kept.")
