"""What the pages show of a run: its folder, images, answers and maps, kept for the next look."""

import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import UsageError
from glasshouse.runs import folder as runs
from glasshouse.runs.listing import Listed, RunListing
from glasshouse.serving.workbench import Workbench

if TYPE_CHECKING:  # a page that shows no images does not wait for torch
    from torch import nn

    from glasshouse.data.images import ImageSet, Splits
    from glasshouse.models.classifier import Classifier
    from glasshouse.models.predict import Predictions
    from glasshouse.settings import DataSettings

# Loading and explaining are slow and large: one thread does it, and who asks for the same waits.
busy = threading.RLock()
_FRESH_SECONDS = 1.0


@dataclass
class _Lister:
    """The list of one folder and when it was read."""

    listing: RunListing
    runs: list[Listed] = field(default_factory=list)
    read_at: float = -_FRESH_SECONDS


_listing = threading.Lock()
_listings: dict[Path, _Lister] = {}


def run_folder(workbench: Workbench, name: str) -> Path:
    """The folder of a run by its name below the folder of runs, and nothing outside it.

    Raises UsageError when there is no such run.
    """
    try:
        folder = (workbench.runs / name).resolve()
        is_inside = folder.is_relative_to(workbench.runs.resolve())
        is_run = is_inside and (folder / runs.RECIPE).is_file()
    except (OSError, ValueError, RuntimeError):
        is_run = False
    if not is_run:
        raise UsageError(f"There is no run named {name} in {workbench.runs}.")
    return folder


def listed_runs(workbench: Workbench) -> list[Listed]:
    """Every run, the newest first; read once a second at most, however many look."""
    with _listing:
        lister = _listings.setdefault(workbench.runs, _Lister(RunListing(workbench.runs)))
        if time.monotonic() - lister.read_at >= _FRESH_SECONDS:
            lister.runs = lister.listing.read()
            lister.read_at = time.monotonic()
        return lister.runs


def load_source(workbench: Workbench, source: str, settings: "DataSettings") -> "Splits":
    """The three parts of a source; the last few are kept."""
    with busy:
        return _splits(source, settings, workbench.data_dir, workbench.offline)


def test_images(workbench: Workbench, folder: Path) -> "ImageSet":
    """The test images of a run, of the size that its net sees."""
    run = runs.read_run(folder)
    settings = run.recipe.data
    if (folder / runs.MODEL).is_file():
        from glasshouse.storage import read_json

        size = int(read_json(folder / runs.MODEL)["preprocessing"]["height"])
        settings = settings.model_copy(update={"image_size": size})
    return load_source(workbench, str(run.environment["data"]["source"]), settings).test


def answers(folder: Path) -> "Predictions":
    """The predictions of a finished run on its test split."""
    path = folder / runs.PREDICTIONS
    if not path.is_file():
        raise UsageError(f"{folder.name} has not been measured yet: it is not finished.")
    with busy:
        return _predictions(path, path.stat().st_mtime_ns)


def classifier_of(folder: Path) -> "Classifier":
    """The trained classifier of a run; the last few are kept."""
    path = folder / runs.MODEL
    if not path.is_file():
        raise UsageError(f"{folder.name} has no trained model yet: it is not finished.")
    with busy:
        return _classifier(folder, path.stat().st_mtime_ns)


def net_of(folder: Path) -> "tuple[nn.Module, tuple[int, int, int]]":
    """The net of a run and its input shape; a fresh one of the same layers before the end.

    Raises UsageError where only the trained one can tell, as for a pretrained net.
    """
    if (folder / runs.MODEL).is_file():
        classifier = classifier_of(folder)
        wanted = classifier.preprocessing
        return classifier.net, (3, wanted.height, wanted.width)
    run = runs.read_run(folder)
    size = run.environment["data"].get("size")
    if run.recipe.model.pretrained is not None or size is None:
        raise UsageError("The net can be shown when the run is finished.")
    from glasshouse.models.layers import build

    class_count = len(run.environment["data"]["class_names"])
    shape = (3, int(size[0]), int(size[1]))
    return build(run.recipe.model, class_count, shape, seed=0), shape


def image_with_id(images: "ImageSet", identity: str) -> NDArray[np.uint8]:
    """The image ``(3, h, w)`` with this id; raises UsageError when there is none."""
    found = np.flatnonzero(images.ids == identity)
    if not len(found):
        raise UsageError(f"There is no test image {identity}: the source has changed since.")
    image: NDArray[np.uint8] = images.pixels[int(found[0])]
    return image


def cell_positions(
    predictions: "Predictions", true: int, predicted: int, limit: int
) -> tuple[list[int], int]:
    """Where images of one class were taken for another, the surest first, and how many in all."""
    from glasshouse.models.predict import probabilities

    certain = probabilities(predictions)
    guesses = certain.argmax(1)
    found = np.flatnonzero((predictions.labels == true) & (guesses == predicted))
    order = np.argsort(-certain[found, predicted], kind="stable")
    return found[order][:limit].tolist(), len(found)


@lru_cache(maxsize=3)
def _splits(
    source: str, settings: "DataSettings", data_dir: Path | None, offline: bool
) -> "Splits":
    from glasshouse.data.sources import load_splits

    return load_splits(source, settings, data_dir=data_dir, offline=offline)


@lru_cache(maxsize=4)
def _predictions(path: Path, changed: int) -> "Predictions":
    from glasshouse.models.predict import load_predictions

    return load_predictions(path)


@lru_cache(maxsize=3)
def _classifier(folder: Path, changed: int) -> "Classifier":
    from glasshouse.models.classifier import load_classifier

    return load_classifier(folder)
