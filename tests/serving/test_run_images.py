"""Test images of a run by position, by id and by cell of the confusion matrix."""

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glasshouse.data.sources import load_splits
from glasshouse.errors import UsageError
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.models.classifier import load_classifier
from glasshouse.models.predict import load_predictions, probabilities, save_predictions
from glasshouse.runs.folder import read_run
from glasshouse.serving.run_images import (
    class_map_png,
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


def expected_map(folder: Path, position: int, label: int) -> bytes:
    """The map of a test image for a class, computed without the workbench."""
    predictions = load_predictions(folder / "predictions.safetensors")
    images = load_splits("digits", read_run(folder).recipe.data).test
    image = images.pixels[images.ids.tolist().index(str(predictions.ids[position]))]
    page = explain_page(load_classifier(folder), image, methods=("grad-cam",), target_class=label)
    return heat_png(shown(page.explanations[0])[0])


def test_the_map_of_a_mistake_is_that_of_its_true_or_of_its_predicted_class(
    full: Workbench,
) -> None:
    folder = full.runs / "first"
    predictions = load_predictions(folder / "predictions.safetensors")
    guesses = predictions.logits.argmax(1)
    position = int(np.flatnonzero(guesses != predictions.labels)[-1])
    assert position > 0
    maps = {
        of: expected_map(folder, position, int(labels[position]))
        for of, labels in (("true", predictions.labels), ("predicted", guesses))
    }
    assert maps["true"] != maps["predicted"]
    for of, expected in maps.items():
        assert class_map_png(full, "first", position, of) == expected


def test_a_run_that_is_trained_again_gets_new_maps(full: Workbench) -> None:
    folder, other = full.runs / "first", full.runs / "sub" / "second"
    label = int(load_predictions(folder / "predictions.safetensors").labels[0])
    before = class_map_png(full, "first", 0, "true")
    assert before == expected_map(folder, 0, label)
    for name in ("model.safetensors", "conformity.safetensors", "model.json"):
        (folder / name).write_bytes((other / name).read_bytes())
        os.utime(folder / name, ns=(10**18, 10**18))
    after = class_map_png(full, "first", 0, "true")
    assert after == expected_map(folder, 0, label) != before


def test_a_run_that_is_evaluated_again_gets_its_new_predictions(full: Workbench) -> None:
    folder, other = full.runs / "first", full.runs / "sub" / "second"
    path = folder / "predictions.safetensors"
    assert list(positions_by_id(full, "first")) == load_predictions(path).ids.tolist()
    new = load_predictions(other / path.name)
    order = np.arange(len(new))[::-1]
    save_predictions(
        replace(new, logits=new.logits[order], targets=new.labels[order], ids=new.ids[order]), path
    )
    os.utime(path, ns=(10**18, 10**18))
    assert list(positions_by_id(full, "first")) == new.ids[order].tolist()


def test_an_unknown_run_and_an_unknown_position_are_errors(full: Workbench) -> None:
    with pytest.raises(UsageError, match="no run named"):
        image_png(full, "none", 0)
    with pytest.raises(IndexError, match="counted from 0"):
        image_png(full, "first", 10**6)
