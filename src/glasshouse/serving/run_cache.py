"""What is slow to load, kept for the next request: images, predictions, classifiers.

It needs torch: pages reach it through functions that are imported at their first call.
"""

import threading
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from glasshouse.data.images import ImageSet, Splits
from glasshouse.data.sources import load_splits
from glasshouse.errors import UsageError
from glasshouse.models.classifier import Classifier
from glasshouse.models.layers import build
from glasshouse.models.predict import Predictions, load_predictions, probabilities
from glasshouse.runs import folder as runs
from glasshouse.serving.workbench import Workbench
from glasshouse.settings import DataSettings
from glasshouse.storage import read_json
from glasshouse.workflow.use.model_choices import ModelChoice, classifier_of_choice, run_of_choice

# The one lock for torch. Loading and explaining take seconds and much memory, and explaining hooks
# a network that all pages share: one thread at a time does either, the others wait.
busy: threading.RLock = threading.RLock()


def load_source(
    workbench: Workbench, source: str, settings: DataSettings, data_dir: Path | None = None
) -> Splits:
    """The splits of a source; the last few sources are kept.

    data_dir: where data sets are looked for unless the workbench was started with a folder.
    """
    with busy:
        return _splits(source, settings, workbench.data_dir or data_dir, workbench.offline)


def test_images(workbench: Workbench, folder: Path) -> ImageSet:
    """The test images of a run, at the input size of its network."""
    return run_splits(workbench, folder).test


def run_splits(workbench: Workbench, folder: Path) -> Splits:
    """The images of a run's source, at the input size of its network."""
    run = runs.read_run(folder)
    settings = run.recipe.data
    if (folder / runs.MODEL).is_file():
        size = int(read_json(folder / runs.MODEL)["preprocessing"]["height"])
        settings = settings.model_copy(update={"image_size": size})
    return load_source(workbench, run.source, settings, run.data_dir)


def test_predictions(folder: Path) -> Predictions:
    """The predictions of a finished run on its test split."""
    path = folder / runs.PREDICTIONS
    if not path.is_file():
        raise UsageError(f"{folder.name} has no predictions yet: it is not finished.")
    with busy:
        return _predictions(path, path.stat().st_mtime_ns)


def classifier_of(folder: Path) -> Classifier:
    """The trained classifier of a run, kept as by `chosen_classifier`."""
    if not (folder / runs.MODEL).is_file():
        raise UsageError(f"{folder.name} has no trained model yet: it is not finished.")
    return _run_classifier(folder, ModelChoice(folder.name))


def chosen_classifier(workbench: Workbench, choice: ModelChoice) -> Classifier:
    """The classifier of a choice, loaded once per version of its file; the last few are kept.

    Raises UsageError for an unknown one, ModelError for weights that are missing or do not fit.
    """
    run = run_of_choice(workbench.runs, choice)
    if run is not None:
        return _run_classifier(run, choice)
    if choice.weights is not None:
        workbench.require_changes()  # viewers of runs are not to open any file of this machine
    with busy:
        return _classifier(workbench.runs, choice, _version(choice.weights))


def net_of(folder: Path) -> tuple[nn.Module, tuple[int, int, int]]:
    """The network of a run and its input shape; before the end, an untrained one of its layers.

    Raises UsageError where that is not possible: for a pretrained network.
    """
    if (folder / runs.MODEL).is_file():
        classifier = classifier_of(folder)
        wanted = classifier.preprocessing
        return classifier.net, (3, wanted.height, wanted.width)
    run = runs.read_run(folder)
    size = run.environment["data"].get("size")
    if run.recipe.model.pretrained is not None or size is None:
        raise UsageError("The network can be shown when the run is finished.")
    class_count = len(run.environment["data"]["class_names"])
    shape = (3, int(size[0]), int(size[1]))
    return build(run.recipe.model, class_count, shape, seed=0), shape


def image_with_id(images: ImageSet, identity: str) -> NDArray[np.uint8]:
    """The image ``(3, h, w)`` with this id; raises UsageError when there is none."""
    found = np.flatnonzero(images.ids == identity)
    if not len(found):
        raise UsageError(
            f"There is no test image {identity}: the source has changed since the run."
        )
    image: NDArray[np.uint8] = images.pixels[int(found[0])]
    return image


def cell_positions(
    predictions: Predictions, true: int, predicted: int, limit: int
) -> tuple[list[int], int]:
    """Positions of up to limit images of one class classified as another, and how many there are.

    The most confident come first.
    """
    certain = probabilities(predictions)
    guesses = certain.argmax(1)
    found = np.flatnonzero((predictions.labels == true) & (guesses == predicted))
    order = np.argsort(-certain[found, predicted], kind="stable")
    return found[order][:limit].tolist(), len(found)


@lru_cache(maxsize=3)
def _splits(source: str, settings: DataSettings, data_dir: Path | None, offline: bool) -> Splits:
    return load_splits(source, settings, data_dir=data_dir, offline=offline)


@lru_cache(maxsize=4)
def _predictions(path: Path, changed: int) -> Predictions:
    return load_predictions(path)


def _run_classifier(run: Path, choice: ModelChoice) -> Classifier:
    # By the folder itself, so that every page finds the same one, whatever it calls the run.
    run = run.resolve()
    with busy:
        version = _version(run / runs.MODEL)
        return _classifier(run.parent, replace(choice, name=run.name), version)


def _version(file: Path | None) -> int:
    return file.stat().st_mtime_ns if file is not None and file.is_file() else 0


@lru_cache(maxsize=4)
def _classifier(folder: Path, choice: ModelChoice, version: int) -> Classifier:
    return classifier_of_choice(folder, choice)
