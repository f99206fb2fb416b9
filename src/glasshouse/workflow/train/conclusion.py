"""The end of a run: final predictions, calibration, metrics, model and report."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.evaluation.calibration import fit_temperature
from glasshouse.evaluation.evaluation import AnyEvaluation, evaluate_any, to_json
from glasshouse.evaluation.label_calibration import choose_thresholds
from glasshouse.models.classifier import Classifier, save_classifier
from glasshouse.models.conformity import conformity_scores
from glasshouse.models.predict import Predictions, passes, predict, save_predictions
from glasshouse.report.explanation_page import ExplainedMistakes
from glasshouse.report.label_report import ExplainedLabels
from glasshouse.runs import folder as runs, holding
from glasshouse.storage import write_json
from glasshouse.training.process_group import ProcessGroup
from glasshouse.workflow.train.explained_labels import explain_labels
from glasshouse.workflow.train.reporting import write_run_report
from glasshouse.workflow.train.worst_mistakes import explain_worst

_VALIDATION = "the validation split"
_OUT_OF_FOLD = "training and validation images, each answered by a head that had not seen it"


@dataclass(frozen=True)
class Result:
    """What a finished run leaves in memory: all of it is in the run folder, too.

    The classifier is on the CPU.
    """

    classifier: Classifier
    predictions: Predictions
    evaluation: AnyEvaluation


def dealt_predictions(classifier: Classifier, images: ImageSet, group: ProcessGroup) -> Predictions:
    """`predict`, of which each process of a group computes a part; all get the whole."""
    if group.size == 1:
        return predict(classifier, images)
    # The passes of a single process: the same kernels on the same shapes give the same bytes.
    chunks = passes(images.pixels)
    parts = group.deal(lambda rows: predict(classifier, take(images, rows)), chunks)
    return replace(
        parts[0],
        logits=np.concatenate([part.logits for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
        ids=np.concatenate([part.ids for part in parts]),
    )


def conclude(
    folder: Path,
    splits: Splits,
    trained: Classifier,
    measured: tuple[Predictions, Predictions],
    *,
    calibrate: bool = True,
    calibrate_on: Predictions | None = None,
) -> Result:
    """Calibrate, and write model, predictions, metrics and report into a run folder.

    measured: the predictions of the trained classifier on the validation and test splits.
    calibrate: False where the validation images were trained on, since confidence on training
    images says nothing about others. calibrate_on: out-of-fold predictions of training
    and validation images, which replace a small validation split: the temperature is fitted to
    them, prediction sets are calibrated on them, and the explained mistakes are theirs.
    """
    on = measured[0] if calibrate_on is None else calibrate_on
    # Neither scores of images that were trained on, nor those of a classifier it was made from.
    classifier = replace(trained, conformity=None)
    if calibrate:
        source = _VALIDATION if calibrate_on is None else _OUT_OF_FOLD
        classifier = with_prediction_sets(calibrated(classifier, on), on, source)
    validation, predictions = (_answered_by(classifier, each) for each in measured)
    evaluation = evaluate_any(predictions)
    save_classifier(classifier, folder)
    save_predictions(validation, folder / runs.VALIDATION_PREDICTIONS)
    save_predictions(predictions, folder / runs.PREDICTIONS)
    write_json(folder / runs.EVALUATION, to_json(evaluation))
    held_out = None if calibrate_on is None else _answered_by(classifier, calibrate_on)
    if held_out is not None:
        save_predictions(held_out, folder / runs.OUT_OF_FOLD_PREDICTIONS)
    explained = explained_for_report(
        classifier, splits, validation, held_out, is_trained_on=not calibrate
    )
    write_run_report(folder, splits, classifier, predictions, evaluation, explained)
    holding.release(folder)
    # Where images are, whatever the network was trained on.
    classifier.net.cpu()
    return Result(classifier, predictions, evaluation)


def explained_for_report(
    classifier: Classifier,
    splits: Splits,
    validation: Predictions,
    held_out: Predictions | None,
    *,
    is_trained_on: bool,
) -> ExplainedMistakes | ExplainedLabels:
    """What a report explains: the worst mistakes, or the labels of images that may have several.

    Arguments as for `explain_worst`.
    """
    if classifier.is_multi_label:
        return explain_labels(classifier, splits.validation, validation)
    return explain_worst(classifier, splits, validation, held_out, is_trained_on=is_trained_on)


def calibrated(classifier: Classifier, held_out: Predictions) -> Classifier:
    """The classifier with the temperature, and the thresholds of labels, that suit these images.

    held_out: its predictions of images that it was not trained on.
    """
    temperature = fit_temperature(held_out)
    if not classifier.is_multi_label:
        return replace(classifier, temperature=temperature)
    thresholds = choose_thresholds(replace(held_out, temperature=temperature))
    return replace(classifier, temperature=temperature, thresholds=thresholds)


def with_prediction_sets(classifier: Classifier, held_out: Predictions, source: str) -> Classifier:
    """The classifier with the conformity scores of these images, where images have one label.

    held_out: predictions of images that it was not trained on. source: what they are.
    """
    if classifier.is_multi_label:
        return classifier
    shares = classifier.to_probabilities(held_out.logits)
    scores = conformity_scores(
        shares, held_out.labels, temperature=classifier.temperature, source=source
    )
    return replace(classifier, conformity=scores)


def _answered_by(classifier: Classifier, predictions: Predictions) -> Predictions:
    """The predictions with the classifier's temperature, thresholds and conformity scores."""
    return replace(
        predictions,
        temperature=classifier.temperature,
        thresholds=classifier.thresholds,
        conformity=classifier.conformity,
    )
