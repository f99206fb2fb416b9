"""A run's mistakes, explained on a page of its report."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.errors import DataError, GlasshouseWarning, ModelError, StorageError
from glasshouse.evaluation.evaluation import evaluate_any
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.label_mistakes import LabelMistakes, explain_label_mistakes
from glasshouse.explanation.methods import SLOW_METHODS
from glasshouse.explanation.mistakes import explain_mistakes
from glasshouse.explanation.nouns import Mistakes
from glasshouse.explanation.pipeline import sheet_methods
from glasshouse.explanation.trust.localisation import Localisation, score_localisation
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import Predictions, load_predictions, predict
from glasshouse.report.explanation_page import ExplainedMistakes, write_mistakes_page
from glasshouse.report.label_report import ExplainedLabels
from glasshouse.report.near_tiles import NearTiles
from glasshouse.runs import folder as runs
from glasshouse.workflow.train.conclusion import explained_for_report
from glasshouse.workflow.train.reporting import Resembled, write_run_report
from glasshouse.workflow.train.worst_mistakes import images_named
from glasshouse.workflow.use.known_images import are_known
from glasshouse.workflow.use.photo_and_run import RunComparison
from glasshouse.workflow.use.predictions import load_run_classifier
from glasshouse.workflow.use.resembled_rows import tiles_near, unlike_images
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
    write = partial(
        write_mistakes_page,
        found,
        scores=score_maps(classifier, splits.validation),
        where=where,
        near=near_mistakes(run, classifier, splits, images, found),
    )
    if out is not None:
        write(out / runs.MISTAKES)
        return out / runs.MISTAKES
    write(run / runs.MISTAKES, report=runs.REPORT)
    refresh_report(run, splits, classifier)
    return run / runs.MISTAKES


def refresh_report(run: Path, splits: Splits, classifier: Classifier) -> None:
    """Write the report of a run again, which links to the pages that lie next to it.

    What was found stands in those pages: a damaged file that only the report needs leaves it as it
    was, with a GlasshouseWarning.
    """
    try:
        _write_again(run, splits, classifier)
    except (DataError, StorageError) as error:
        warnings.warn(
            f"{run / runs.REPORT} stays as it was: {error}", GlasshouseWarning, stacklevel=2
        )


def _write_again(run: Path, splits: Splits, classifier: Classifier) -> None:
    # Predictions are stored without the scores that prediction sets are measured by.
    test = replace(load_predictions(run / runs.PREDICTIONS), conformity=classifier.conformity)
    validation = predict(classifier, splits.validation)
    explained = explained_for_report(
        classifier,
        splits,
        validation,
        _out_of_fold(run),
        is_trained_on=runs.read_run(run).recipe.data.train_on_validation,
    )
    resembled = _resembled(run, classifier, splits, validation, explained)
    write_run_report(run, splits, classifier, test, evaluate_any(test), explained, resembled)


def near_mistakes(
    run: Path,
    classifier: Classifier,
    splits: Splits,
    images: ImageSet,
    found: Sequence[Mistakes] | Sequence[LabelMistakes],
) -> NearTiles:
    """The training images that mistakes resemble; images: those of the mistakes.

    None for a network without features, or where the training images have changed since.
    """
    named = {name for each in found for name in _ids(each)}
    try:
        comparison = RunComparison.of(run, classifier, splits=splits)
    except (ModelError, DataError):
        return {}
    rows = [row for row, name in enumerate(images.ids.tolist()) if name in named]
    return tiles_near(comparison, splits.train, take(images, rows))


def _ids(mistakes: Mistakes | LabelMistakes) -> list[str]:
    if isinstance(mistakes, Mistakes):
        return [str(name) for name in mistakes.ids]
    return [error.id for error in mistakes.errors]


def _resembled(
    run: Path,
    classifier: Classifier,
    splits: Splits,
    validation: Predictions,
    explained: ExplainedMistakes | ExplainedLabels,
) -> Resembled | None:
    """What the report says of resemblance: only where somebody has asked for that before."""
    if not are_known(run):
        return None
    comparison = RunComparison.of(run, classifier, splits=splits)
    near: NearTiles = {}
    if isinstance(explained, ExplainedMistakes) and explained.mistakes is not None:
        images = images_named(splits, explained.mistakes.ids)
        near = tiles_near(comparison, splits.train, images)
    return Resembled(near, unlike_images(comparison, splits, validation))


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
