"""Trained classifiers applied to a run's test split or to another source."""

from dataclasses import replace
from pathlib import Path

from glasshouse.data.images import with_class_order
from glasshouse.data.sources import (
    Access,
    absolute_source,
    load_for_evaluation,
)
from glasshouse.errors import DataError
from glasshouse.models.classifier import Classifier, load_classifier, saved_conformity
from glasshouse.models.predict import Predictions, load_predictions, predict
from glasshouse.runs import folder as runs
from glasshouse.settings import DataSettings
from glasshouse.workflow.use.own_code import own_net_of


def load_run_classifier(folder: Path) -> Classifier:
    """The trained classifier of a run; raises UsageError while it has none."""
    runs.require_trained(folder)
    return load_classifier(folder, net=own_net_of(folder, None))


def predictions_on(
    classifier: Classifier, source: str, *, data_dir: Path | None, offline: bool
) -> Predictions:
    """Predictions on the test split of a source, or on all images where it defines no splits.

    Images are read exactly as `predict` reads files. The source may have the classes in another
    order, or some of them. Raises DataError for others.
    """
    wanted = classifier.preprocessing
    settings = DataSettings(image_size=wanted.height, resize=wanted.resize)
    access = Access(data_dir, offline)
    images = load_for_evaluation(source, settings, access=access, fitting=wanted.fitting)
    return predict(classifier, with_class_order(images, classifier.class_names))


def predictions_of(
    folder: Path,
    source: str | None,
    *,
    data_dir: Path | None,
    offline: bool,
    is_whole: bool = False,
    classifier: Classifier | None = None,
) -> Predictions:
    """The stored test predictions of a run, or new ones on the test split of another source.

    is_whole: on all images of a folder or table that defines no splits, unless the run was trained
    on that very source. classifier: the run's, where it is loaded already. Raises DataError when
    the other source has other classes than some of the run's.
    """
    if source is None:
        runs.require_trained(folder)
        stored = load_predictions(folder / runs.PREDICTIONS)
        return replace(stored, conformity=saved_conformity(folder))
    classifier = classifier or load_run_classifier(folder)
    run = runs.read_run(folder)
    wanted = classifier.preprocessing
    given = {"image_size": wanted.height, "resize": wanted.resize, "train_limit": None}
    settings = run.recipe.data.model_copy(update=given)
    is_whole = is_whole and not was_trained_on(folder, source)
    access = Access(data_dir, offline)
    images = load_for_evaluation(source, settings, access=access, is_whole=is_whole)
    images = with_class_order(images, classifier.class_names)
    if images.class_names != classifier.class_names:
        raise DataError(
            f"{source} has the classes {', '.join(images.class_names[:10])}, but {folder} was "
            f"trained for {', '.join(classifier.class_names[:10])}. Use a source with the same "
            "classes, or some of them."
        )
    return predict(classifier, images)


def was_trained_on(folder: Path, source: str) -> bool:
    """Whether a source is the one that a run was trained on, whatever leads there."""
    return absolute_source(source) == absolute_source(runs.read_run(folder).source)
