"""Test images of a run by position, by id and by cell of the confusion matrix."""

import io

import numpy as np
import pytest
from PIL import Image

from glasshouse.errors import UsageError
from glasshouse.models.predict import load_predictions, probabilities
from glasshouse.serving.run_images import (
    confusion_cell,
    heat_png,
    positions_by_id,
    test_image_png as image_png,  # under its own name, pytest would take it for a test
)
from glasshouse.serving.workbench import Workbench


def test_larger_values_of_a_map_are_more_opaque() -> None:
    heat = np.array([[0.0, 0.5], [1.0, -3.0]], dtype=np.float32)
    alpha = np.asarray(Image.open(io.BytesIO(heat_png(heat))))[..., 3]
    assert alpha[0, 0] == alpha[1, 1] == 0
    assert 0 < alpha[0, 1] < alpha[1, 0]


def test_a_cell_holds_its_images_most_confident_first(full: Workbench) -> None:
    predictions = load_predictions(full.runs / "first" / "predictions.safetensors")
    confidence, guesses = probabilities(predictions), predictions.logits.argmax(1)
    true, predicted = int(predictions.labels[0]), int(guesses[0])
    names, count, images = confusion_cell(full, "first", (true, predicted), limit=3)
    assert names == (predictions.class_names[true], predictions.class_names[predicted])
    assert count == int(((predictions.labels == true) & (guesses == predicted)).sum())
    assert len(images) == min(3, count)
    shares = [share for _, _, share in images]
    assert shares == sorted(shares, reverse=True)
    for position, identity, share in images:
        assert str(predictions.ids[position]) == identity
        assert share == pytest.approx(confidence[position, predicted])


def test_positions_are_those_of_the_predictions(full: Workbench) -> None:
    predictions = load_predictions(full.runs / "first" / "predictions.safetensors")
    found = positions_by_id(full, "first")
    assert len(found) == len(predictions)
    assert all(str(predictions.ids[position]) == name for name, position in found.items())


def test_an_unknown_run_and_an_unknown_position_are_errors(full: Workbench) -> None:
    with pytest.raises(UsageError, match="no run named"):
        image_png(full, "none", 0)
    with pytest.raises(IndexError, match="counted from 0"):
        image_png(full, "first", 10**6)
