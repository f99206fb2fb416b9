"""Image files and decoded images as a classifier's input, and from a file to an explanation."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import glasshouse as gh
from glasshouse.models.bundled import load_bundled


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_path_a_text_and_a_decoded_image_give_the_same_pixels(photo: Path) -> None:
    images = gh.read_images([photo, str(photo), gh.decode(photo)], load_bundled("cifar10-small"))
    assert images.shape == (3, 3, 32, 32)
    assert images.dtype == np.uint8
    assert (images == images[0]).all()


def test_one_source_needs_no_list(photo: Path) -> None:
    classifier = load_bundled("cifar10-small")
    expected = gh.read_images([photo], classifier)
    for source in (photo, str(photo), gh.decode(str(photo))):
        assert np.array_equal(gh.read_images(source, classifier), expected)


def test_from_a_file_to_probabilities_and_an_explanation_in_three_lines(photo: Path) -> None:
    classifier = gh.classifier_by_name("cifar10-small")
    images = gh.read_images(str(photo), classifier)
    (explanation,) = gh.explain(classifier, images, methods=["saliency"])
    assert explanation.maps.shape == (1, 32, 32)
    probabilities = gh.classify(classifier, images)
    assert probabilities.shape == (1, 10)
    assert probabilities.sum() == pytest.approx(1)
    assert int(explanation.targets[0]) == int(probabilities.argmax())


def test_no_image_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    classifier = load_bundled("cifar10-small")
    with pytest.raises(gh.DataError, match="received none"):
        gh.read_images([], classifier)
    with pytest.raises(gh.BadImage, match="does not exist"):
        gh.read_images(str(tmp_path / "cat.jpg"), classifier)
