"""What the metrics of a run mean, in sentences: never more than was measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from glasshouse.evaluation.evaluation import Evaluation
from glasshouse.wording import percentage, pluralize

Epochs = Sequence[Mapping[str, Any]]

# The last epochs are compared with those before them in windows of this share of the training.
_WINDOW = 5
# A loss that changes by less than this share is level; less would be noise between epochs.
_LEVEL = 0.02
# A class drives the errors when it has this share of them, and at least twice its share of images.
_DRIVING = 0.3
# Below this many test images of a class, its recall is too uncertain to rank classes by.
_FEW_OF_CLASS = 10
_FEW_MISTAKES = 10


def training_conclusions(epochs: Epochs, planned: int, kept: str = "last") -> tuple[str, ...]:
    """How the training went, from the lines of metrics.jsonl, and what to do about it.

    planned: epochs of the recipe; fewer were run where early stopping ended the training. kept:
    "best" or "last", which weights the run has.
    """
    known = [epoch for epoch in epochs if _is_measured(epoch)]
    if not known:
        return ()
    stopped = len(epochs) < planned
    found = [_stopped(epochs, planned, kept)] if stopped else []
    if len(known) < 3:
        return (
            *found,
            f"Only {pluralize(len(known), 'epoch')} of training: too few to say whether longer "
            "training would help.",
        )
    return (*found, _trend(known, kept, stopped=stopped))


def evaluation_conclusions(evaluation: Evaluation) -> tuple[str, ...]:
    """What the metrics on the test split mean, the most important first."""
    return tuple(
        sentence
        for sentence in (
            _against_baseline(evaluation),
            _precision(evaluation),
            _errors(evaluation),
            _calibration(evaluation),
        )
        if sentence
    )


def _is_measured(epoch: Mapping[str, Any]) -> bool:
    losses = epoch.get("validation_loss"), epoch.get("train_loss")
    return all(loss is not None and np.isfinite(loss) for loss in losses)


def _stopped(epochs: Epochs, planned: int, kept: str) -> str:
    known = [epoch for epoch in epochs if _is_measured(epoch)]
    best = min(known, key=lambda epoch: float(epoch["validation_loss"]))
    number = best["epoch"] if kept == "best" else len(epochs)
    return (
        f"Training stopped early, after {len(epochs)} of {pluralize(planned, 'epoch')}; the "
        f"weights of epoch {number} were kept."
    )


def _trend(known: Epochs, kept: str, *, stopped: bool) -> str:
    """Still improving, overfitting or level, by the validation and training loss."""
    losses = np.array([epoch["validation_loss"] for epoch in known], dtype=np.float64)
    best = int(losses.argmin())
    window = max(1, len(known) // _WINDOW)
    before, last = losses[-2 * window : -window].mean(), losses[-window:].mean()
    since = len(known) - 1 - best
    is_worse = losses[-window:].mean() > losses[best] * (1 + 2 * _LEVEL)
    number = known[best]["epoch"]
    if since >= max(2, window) and is_worse and _falls(known, best):
        weights = (
            "the weights of that epoch were kept. Try"
            if kept == "best"
            else 'keep its weights with train.keep = "best", or try'
        )
        return (
            f"Overfitting since epoch {number}: the validation loss rose from {losses[best]:.3f} "
            f"to {losses[-1]:.3f} while the training loss fell; {weights} stronger "
            "augmentation."
        )
    if since < window and last < before * (1 - _LEVEL) and not stopped:
        return (
            f"Still improving: the mean validation loss fell from {before:.3f} to {last:.3f} over "
            f"the last {2 * window} epochs, and the best epoch is {_last_or(number, known)}. Train "
            "longer."
        )
    if abs(last - before) <= before * _LEVEL:
        return (
            f"The validation loss has levelled off ({before:.3f}, then {last:.3f} over the last "
            f"{2 * window} epochs): more epochs at the last learning rate would change little."
        )
    return (
        f"The lowest validation loss is {losses[best]:.3f} in epoch {number}, and the last one "
        f"{losses[-1]:.3f}: no clear trend at the end."
    )


def _falls(known: Epochs, best: int) -> bool:
    """Whether the training loss kept falling after the best epoch."""
    return bool(known[-1]["train_loss"] < known[best]["train_loss"])


def _last_or(number: int, known: Epochs) -> str:
    return f"the last, {number}" if number == known[-1]["epoch"] else f"{number}"


def _against_baseline(evaluation: Evaluation) -> str:
    accuracy, baseline = evaluation.accuracy, evaluation.commonest_share
    said = (
        f"always predicting the most frequent class would be right for {percentage(baseline)} of "
        "the test images"
    )
    if accuracy.high < baseline:
        return f"Worse than the baseline: {said}. Check the labels, then the learning rate."
    if accuracy.low <= baseline:
        return (
            f"Not measurably better than the baseline: {said}, which is within the confidence "
            "interval of the accuracy."
        )
    return ""


def _precision(evaluation: Evaluation) -> str:
    """How far the test split is from distinguishing accuracies; silent where it is large."""
    half = (evaluation.accuracy.high - evaluation.accuracy.low) / 2
    if half <= 0.03:
        return ""
    count = pluralize(evaluation.image_count, "test image")
    return (
        f"With {count}, the accuracy is known to about ± {100 * half:.0f} percentage points: "
        "smaller differences between runs may be chance."
    )


def _errors(evaluation: Evaluation) -> str:
    """Which class has far more of the mistakes than its share of the images."""
    mistakes = evaluation.mistake_count
    if mistakes == 0:
        return "There are no mistakes on the test split."
    if mistakes < _FEW_MISTAKES:
        return (
            f"There are only {pluralize(mistakes, 'mistake')} on the test split, too few to say "
            "which classes are difficult."
        )
    wrong = evaluation.confusion.sum(axis=1) - np.diag(evaluation.confusion)
    worst = int(wrong.argmax())
    support = int(evaluation.confusion[worst].sum())
    share, of_images = wrong[worst] / mistakes, support / evaluation.image_count
    if support < _FEW_OF_CLASS or share < max(_DRIVING, 2 * of_images):
        return ""
    row = evaluation.confusion[worst].copy()
    row[worst] = 0
    other, name = evaluation.class_names[int(row.argmax())], evaluation.class_names[worst]
    return (
        f"One class drives the errors: {name} has {percentage(float(share))} of the mistakes and "
        f"{percentage(of_images)} of the images; it is most often predicted as {other} "
        f"({pluralize(int(row.max()), 'image')})."
    )


def _calibration(evaluation: Evaluation) -> str:
    confidence, accuracy = evaluation.after.confidence, evaluation.accuracy
    if accuracy.low <= confidence <= accuracy.high:
        return (
            f"On average its probabilities agree with the accuracy, within the confidence interval "
            f"of the latter: mean confidence {percentage(confidence)}, accuracy "
            f"{percentage(accuracy.value)}."
        )
    kind, way = (
        ("overconfident", "high") if confidence > accuracy.value else ("underconfident", "low")
    )
    points = 100 * abs(confidence - accuracy.value)
    return (
        f"It is {kind}, also after calibration: its probabilities are {points:.1f} percentage "
        f"points too {way} on average."
    )
