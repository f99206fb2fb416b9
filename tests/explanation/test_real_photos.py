"""The dog and the cat of one photo, seen by a net with real weights."""

import os
from pathlib import Path

import numpy as np
import pytest

from glasshouse.explanation.all_classes import class_maps
from glasshouse.explanation.explain import explain, explain_contrast
from glasshouse.explanation.record import shown
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.zoo import create
from glasshouse.workflow.measuring import read_pictures

# Where the animals lie in the centred square of the photo, as (rows, columns) of 224 pixels.
DOG = (slice(10, 130), slice(70, 170))
CAT = (slice(120, 224), slice(40, 224))


@pytest.fixture(scope="module")
def mobilenet() -> tuple[Classifier, Path]:
    if not os.environ.get("GLASSHOUSE_DATA"):
        pytest.skip("GLASSHOUSE_DATA names no folder of pictures")
    data = Path(os.environ["GLASSHOUSE_DATA"])
    weights = data / "weights" / "imagenet" / "mobilenetv2_100_tfsame.fp16.safetensors"
    found = create("timm/mobilenetv2_100:pad_type=same", weights=weights).classifier
    half = (0.5, 0.5, 0.5)
    scaling = Preprocessing(224, 224, "crop", half, half, 0.875)
    return Classifier(found.net, scaling, found.class_names), data


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore::glasshouse.explanation.relu_rules.ExplanationWarning")
def test_dog_and_cat_maps_point_to_different_animals(mobilenet: tuple[Classifier, Path]) -> None:
    classifier, data = mobilenet
    pictures = read_pictures([data / "photos" / "cat-dog" / "both.png"], classifier).pictures
    for name, place, other in (("bull mastiff", DOG, CAT), ("tiger cat", CAT, DOG)):
        cam, guided_cam = explain(
            classifier, pictures, methods=["grad-cam", "guided-grad-cam"], target_class=name
        )
        row, column = np.unravel_index(shown(cam)[0].argmax(), (224, 224))
        assert place[0].start <= row < place[0].stop, (name, row)
        assert place[1].start <= column < place[1].stop, (name, column)
        values = shown(guided_cam)[0]
        assert values[place].sum() > 1.3 * values[other].sum(), name


@pytest.mark.realdata
def test_the_contrast_of_dog_and_cat_changes_sign_between_them(
    mobilenet: tuple[Classifier, Path],
) -> None:
    classifier, data = mobilenet
    pictures = read_pictures([data / "photos" / "cat-dog" / "both.png"], classifier).pictures
    found = explain_contrast(classifier, pictures, target_class="tiger cat", against="boxer")
    assert found.maps[0, :3, 2:5].mean() < 0 < found.maps[0, 5:, 2:].mean()
    every = class_maps(classifier, pictures)
    cat, dog = (classifier.class_names.index(name) for name in ("tiger cat", "boxer"))
    difference = every[0, cat] - every[0, dog]
    np.testing.assert_allclose(difference, found.maps[0], rtol=1e-3, atol=1e-5)
