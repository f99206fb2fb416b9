"""The dog and the cat of one photo, seen by nets with real weights."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from glasshouse.data.images import take
from glasshouse.data.sources import load_splits
from glasshouse.explanation.activations import activations
from glasshouse.explanation.explain import explain, explain_contrast
from glasshouse.explanation.maps.class_maps import class_maps
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.trust.faithfulness import faithfulness
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.predict import read_images
from glasshouse.settings import DataSettings
from glasshouse.workflow.use.model_names import classifier_by_name
from tests.parity.test_pretrained_weights import IMAGENET_MEAN, IMAGENET_STD, resnet20

# Where the animals lie in the centred square of the photo, as (rows, columns) of 224 pixels.
DOG = (slice(10, 130), slice(70, 170))
CAT = (slice(120, 224), slice(40, 224))


# How each net is named at the command line, and its weights.
NETS = {
    "mobilenet": (
        "mobilenetv2_100:pad_type=same,mean=0.5,std=0.5",
        "mobilenetv2_100_tfsame.fp16.safetensors",
    ),
    "squeezenet": ("squeezenet1_0", "squeezenet1_0.fp16.safetensors"),
}


@cache
def real(net: str) -> tuple[Classifier, NDArray[np.uint8]]:
    """A net with real weights, and the photo of a dog and a cat as it sees it."""
    data = Path(os.environ["GLASSHOUSE_DATA"])
    name, file = NETS[net]
    classifier = classifier_by_name(name, weights=data / "weights" / "imagenet" / file)
    photo = data / "photos" / "cat-dog" / "both.png"
    return classifier, read_images([photo], classifier)


@pytest.mark.realdata
@pytest.mark.parametrize("net", sorted(NETS))
@pytest.mark.filterwarnings("ignore::glasshouse.explanation.explain.ExplanationWarning")
def test_dog_and_cat_maps_point_to_different_animals(net: str, real_data: Path) -> None:
    classifier, images = real(net)
    for name, place, other in (("bull mastiff", DOG, CAT), ("tiger cat", CAT, DOG)):
        cam, guided_cam = explain(
            classifier, images, methods=["grad-cam", "guided-grad-cam"], target_class=name
        )
        row, column = np.unravel_index(shown(cam)[0].argmax(), (224, 224))
        assert place[0].start <= row < place[0].stop, (name, row)
        assert place[1].start <= column < place[1].stop, (name, column)
        values = shown(guided_cam)[0]
        assert values[place].sum() > 1.3 * values[other].sum(), name


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore::glasshouse.explanation.explain.ExplanationWarning")
def test_a_foreign_net_with_functional_relus_is_explained_on_real_images(real_data: Path) -> None:
    splits = load_splits("cifar10", DataSettings(), data_dir=real_data, offline=True)
    images = take(splits.test, range(40))
    net = resnet20(real_data)
    preprocessing = Preprocessing(32, 32, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    classifier = Classifier(net, preprocessing, images.class_names)
    guided, cam, rule = explain(
        classifier,
        images.pixels,
        methods=["guided", "grad-cam", "grad-cam-guided-rule"],
        target_class=images.labels,
    )
    assert guided.relu_operations == 19 and rule.relu_operations == 0
    np.testing.assert_array_equal(cam.maps, rule.maps)
    (maps,) = activations(classifier, images.pixels, ["layer3"])
    weights = net.linear.weight.detach().numpy()[images.labels]
    expected = np.einsum("nchw,nc->nhw", maps.values, weights) / 64
    np.testing.assert_allclose(cam.maps, expected, atol=1e-5 * np.abs(expected).max())
    random = np.random.default_rng(0).random(shown(cam).shape)
    ours, chance = faithfulness(classifier, images.pixels, [shown(cam), random], images.labels)
    assert (ours.insertion - ours.deletion).mean() > (
        chance.insertion - chance.deletion
    ).mean() + 0.05


@pytest.mark.realdata
def test_the_contrast_of_dog_and_cat_changes_sign_between_them(real_data: Path) -> None:
    classifier, images = real("mobilenet")
    found = explain_contrast(classifier, images, target_class="tiger cat", against="boxer")
    assert found.maps[0, :3, 2:5].mean() < 0 < found.maps[0, 5:, 2:].mean()
    every = class_maps(classifier, images)
    cat, dog = (classifier.class_names.index(name) for name in ("tiger cat", "boxer"))
    difference = every[0, cat] - every[0, dog]
    np.testing.assert_allclose(difference, found.maps[0], rtol=1e-3, atol=1e-5)
