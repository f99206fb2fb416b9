"""Trained classifiers applied to a run's test split or to another source."""

from pathlib import Path

from glasshouse.data.sources import load_splits
from glasshouse.errors import DataError
from glasshouse.models.classifier import Classifier, load_classifier
from glasshouse.models.predict import Predictions, load_predictions, predict
from glasshouse.runs import folder as runs


def load_run_classifier(folder: Path) -> Classifier:
    """The trained classifier of a run; raises UsageError while it has none."""
    runs.require_trained(folder)
    return load_classifier(folder)


def predictions_of(
    folder: Path, source: str | None, *, data_dir: Path | None, offline: bool
) -> Predictions:
    """The stored test predictions of a run, or new ones on the test split of another source.

    Raises DataError when the other source has other classes.
    """
    classifier = load_run_classifier(folder)
    if source is None:
        return load_predictions(folder / runs.PREDICTIONS)
    settings = runs.read_run(folder).recipe.data
    wanted = classifier.preprocessing
    given = {"image_size": wanted.height, "resize": wanted.resize, "train_limit": None}
    splits = load_splits(
        source,
        settings.model_copy(update=given),
        data_dir=data_dir,
        offline=offline,
    )
    if splits.class_names != classifier.class_names:
        raise DataError(
            f"{source} has the classes {', '.join(splits.class_names[:10])}, but {folder} was "
            f"trained for {', '.join(classifier.class_names[:10])}. Use a source with the same "
            "classes."
        )
    return predict(classifier, splits.test)
