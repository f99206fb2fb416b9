"""Trained classifiers applied to images: a run's test split, another source, single files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glasshouse.data.decode import Pixels, decode
from glasshouse.data.sources import load_splits
from glasshouse.errors import DataError
from glasshouse.models.classifier import Classifier, load_classifier
from glasshouse.models.predict import Predictions, load_predictions, predict
from glasshouse.models.preprocessing import preprocess
from glasshouse.runs import folder as runs

ImageSource = str | Path | Pixels


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


def read_images(sources: ImageSource | Sequence[ImageSource], classifier: Classifier) -> Pixels:
    """One image or several as the classifier takes them, uint8 ``(n, 3, h, w)``.

    sources: paths of image files, or what `decode` returns, uint8 ``(h, w, 3)`` of any size. Raises
    BadImage, naming the file, and DataError for an array that is not a decoded image or for no
    source at all.
    """
    # A path and an array are sequences themselves, of letters and of rows.
    wanted = [sources] if isinstance(sources, str | Path | np.ndarray) else list(sources)
    if not wanted:
        raise DataError("expected one image or more, received none")
    return np.stack([preprocess(_decoded(each), classifier.preprocessing) for each in wanted])


def _decoded(source: ImageSource) -> Pixels:
    if isinstance(source, str | Path):
        return decode(source)
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
        raise DataError(
            "expected a decoded image, uint8 (h, w, 3) with values 0 to 255, received "
            f"{source.dtype} {source.shape}"
        )
    return source
