"""A run's mistakes, explained on a page of its report."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.errors import DataError
from glasshouse.evaluation.evaluation import evaluate_any
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.label_mistakes import explain_label_mistakes
from glasshouse.explanation.methods import SLOW_METHODS
from glasshouse.explanation.mistakes import explain_mistakes
from glasshouse.explanation.pipeline import sheet_methods
from glasshouse.explanation.trust.localisation import Localisation, score_localisation
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import Predictions, load_predictions, predict
from glasshouse.report.explanation_page import write_mistakes_page
from glasshouse.runs import folder as runs
from glasshouse.workflow.train.conclusion import explained_for_report
from glasshouse.workflow.train.reporting import write_run_report
from glasshouse.workflow.train.worst_mistakes import images_named
from glasshouse.workflow.use.predictions import load_run_classifier
from glasshouse.workflow.use.run_splits import splits_of_run


def explain_run_mistakes(
    run: Path,
    out: Path | None = None,
    *,
    data_dir: Path | None = None,
    offline: bool = False,
    classifier: Classifier | None = None,
) -> Path:
    """Write a page of a run's worst mistakes and most confused classes; returns its path.

    Where images may have several labels: of the labels that are wrongly marked or missed.

    out: a folder to write the page to; unset: the run folder, whose report then links to it. The
    mistakes are those on the validation split, or of the out-of-fold predictions where the run has
    some: conclusions drawn from them may change the model, and the test split must not influence
    that. classifier: the run's, where it is loaded already.
    """
    classifier, facts = classifier or load_run_classifier(run), runs.read_run(run)
    splits = splits_of_run(facts, data_dir=data_dir, offline=offline)
    # Before anything is computed or written: the page and the report have to fit each other.
    test = load_predictions(run / runs.PREDICTIONS)
    _require_images_of(test, splits.test, run / runs.PREDICTIONS)
    validation = predict(classifier, splits.validation)
    held_out = _out_of_fold(run)
    predictions, images, where = validation, splits.validation, "validation"
    if held_out is not None:
        predictions, images = held_out, images_named(splits, held_out.ids)
        where = "training or validation"
    explained = explain_label_mistakes if classifier.is_multi_label else explain_mistakes
    found = explained(classifier, images, predictions)
    scores = score_maps(classifier, splits.validation)
    if out is not None:
        write_mistakes_page(found, out / runs.MISTAKES, scores=scores, where=where)
        return out / runs.MISTAKES
    write_mistakes_page(found, run / runs.MISTAKES, scores=scores, report=runs.REPORT, where=where)
    refresh_report(run, splits, classifier)
    return run / runs.MISTAKES


def refresh_report(run: Path, splits: Splits, classifier: Classifier) -> None:
    """Write the report of a run again, which links to the pages that lie next to it."""
    # Predictions are stored without the scores that prediction sets are measured by.
    test = replace(load_predictions(run / runs.PREDICTIONS), conformity=classifier.conformity)
    explained = explained_for_report(
        classifier,
        splits,
        predict(classifier, splits.validation),
        _out_of_fold(run),
        is_trained_on=runs.read_run(run).recipe.data.train_on_validation,
    )
    write_run_report(run, splits, classifier, test, evaluate_any(test), explained)


def _out_of_fold(run: Path) -> Predictions | None:
    path = run / runs.OUT_OF_FOLD_PREDICTIONS
    return load_predictions(path) if path.is_file() else None


def _require_images_of(predictions: Predictions, images: ImageSet, file: Path) -> None:
    """Raise DataError unless the predictions are of these images and their classes."""
    ours, theirs = predictions.ids.tolist(), images.ids.tolist()
    if ours == theirs and predictions.class_names == images.class_names:
        return
    what = "other classes than its source has"
    if ours != theirs:
        differing = sorted(set(ours) ^ set(theirs)) or ["all in another order"]
        what = f"other images than the test split of its source, such as {differing[0]}"
    raise DataError(
        f"{file} has predictions for {what}: the source has changed since the training, or the "
        "file is that of another run. Train again."
    )


def score_maps(
    classifier: Classifier, images: ImageSet, *, most: int = 200
) -> tuple[Localisation, ...]:
    """How well the maps of the true classes locate the objects; empty without masks.

    Where images may have several labels, the map of each is held against its own object. Methods
    that need many passes are left out. most: at most this many maps of a method are used.
    """
    if images.masks is None or not images.label_matrix.any():
        return ()
    rows, labels = (each[:most] for each in np.nonzero(images.label_matrix))
    some = take(images, rows)
    assert some.masks is not None
    masks = some.masks[np.arange(len(rows)), labels] if images.is_multi_label else some.masks
    methods = [m for m in sheet_methods(classifier, some.pixels[0]) if m not in SLOW_METHODS]
    page = explain_page(classifier, some.pixels, methods=methods, target_class=labels)
    return score_localisation(page.explanations, masks)
