"""Test images of a run and their explanation maps, as PNG files and by cell of the matrix.

It needs torch: pages reach it through functions that are imported at their first call.
"""

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glasshouse.errors import UsageError
from glasshouse.explanation.draw.overlay import transparent
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.models.predict import probabilities
from glasshouse.runs import folder as runs
from glasshouse.serving.run_cache import (
    busy,
    cell_positions,
    classifier_of,
    image_with_id,
    test_images,
    test_predictions,
)
from glasshouse.serving.run_lookup import run_folder
from glasshouse.serving.workbench import Workbench


def test_image_png(workbench: Workbench, name: str, position: int) -> bytes:
    """One image of the test split, by its position in the run's predictions.

    Raises UsageError for an unknown or unfinished run, IndexError for an unknown position.
    """
    return _png(_image_at(workbench, run_folder(workbench, name), position).transpose(1, 2, 0))


def class_map_png(workbench: Workbench, name: str, position: int, of: str) -> bytes:
    """The Grad-CAM map of a test image as an overlay; of: the "predicted" or the "true" class.

    Raises as `test_image_png` does.
    """
    folder = run_folder(workbench, name)
    model = folder / runs.MODEL
    # The time of the file is part of the key: a run that is trained again gets new maps.
    changed = model.stat().st_mtime_ns if model.is_file() else 0
    return _class_map_png(workbench, folder, changed, (position, of))


def heat_png(heat: NDArray[np.floating[Any]]) -> bytes:
    """A map ``(h, w)`` as an overlay: the larger a value, the more opaque its pixel."""
    return _png(transparent(heat))


def positions_by_id(workbench: Workbench, name: str) -> dict[str, int]:
    """Each test image's position in the run's predictions, by its id.

    Loads the images too, so that a source that is gone raises here and not image by image.
    """
    folder = run_folder(workbench, name)
    test_images(workbench, folder)
    return {str(identity): i for i, identity in enumerate(test_predictions(folder).ids)}


def confusion_cell(
    workbench: Workbench, name: str, cell: tuple[int, int], limit: int
) -> tuple[tuple[str, str], int, list[tuple[int, str, float]]]:
    """The images behind one cell (true class, predicted class) of the confusion matrix.

    Both class names, how many images there are, and up to limit of them, most confident first:
    position, id and the probability of the predicted class. Raises UsageError where the run's files
    do not fit each other.
    """
    folder = run_folder(workbench, name)
    predictions = test_predictions(folder)
    true, predicted = cell
    if max(cell) >= len(predictions.class_names):
        raise UsageError(f"{runs.PREDICTIONS} has fewer classes than {runs.EVALUATION}.")
    positions, count = cell_positions(predictions, true, predicted, limit)
    test_images(workbench, folder)
    confidence = probabilities(predictions)[:, predicted]
    images = [(i, str(predictions.ids[i]), float(confidence[i])) for i in positions]
    names = predictions.class_names
    return (names[true], names[predicted]), count, images


@lru_cache(maxsize=512)
def _class_map_png(
    workbench: Workbench, folder: Path, changed: int, what: tuple[int, str]
) -> bytes:
    position, of = what
    predictions, classifier = test_predictions(folder), classifier_of(folder)
    image = _image_at(workbench, folder, position)
    label = predictions.labels[position] if of == "true" else predictions.logits[position].argmax()
    with busy:
        page = explain_page(classifier, image, methods=("grad-cam",), target_class=int(label))
    return heat_png(shown(page.explanations[0])[0])


def _image_at(workbench: Workbench, folder: Path, position: int) -> NDArray[np.uint8]:
    predictions = test_predictions(folder)
    if not 0 <= position < len(predictions):
        raise IndexError(f"there are {len(predictions)} test images, counted from 0")
    return image_with_id(test_images(workbench, folder), str(predictions.ids[position]))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
