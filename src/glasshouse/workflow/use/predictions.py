"""Trained classifiers on images: a run's own test split, another source, single files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.decode import decode
from glasshouse.data.sources import load_splits
from glasshouse.errors import DataError, UsageError
from glasshouse.models.classifier import Classifier, load_classifier
from glasshouse.models.predict import Predictions, load_predictions, predict
from glasshouse.models.preprocessing import preprocess
from glasshouse.runs import folder as runs


def load_run_classifier(folder: Path) -> Classifier:
    """The trained classifier of a run; raises UsageError when there is none (yet)."""
    run = runs.read_run(folder)
    if not (folder / runs.MODEL).is_file():
        raise UsageError(
            f"{folder} has not finished training ({len(run.epochs)} of {run.recipe.train.epochs} "
            f"epochs). Go on with: glasshouse train {run.environment['data']['source']} "
            f"--out {folder} --resume"
        )
    return load_classifier(folder)


def predictions_of(
    folder: Path, source: str | None, *, data_dir: Path | None, offline: bool
) -> Predictions:
    """The stored predictions of a run, or new ones on the test split of another source.

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
            f"{source} has the classes {', '.join(splits.class_names[:10])}, but {folder} knows "
            f"{', '.join(classifier.class_names[:10])}: the figures would mean nothing."
        )
    return predict(classifier, splits.test)


def read_images(paths: Sequence[Path], classifier: Classifier) -> NDArray[np.uint8]:
    """Image files as the classifier takes them, uint8 ``(n, 3, h, w)``.

    Raises BadImage, naming the file.
    """
    return np.stack([preprocess(decode(path), classifier.preprocessing) for path in paths])
