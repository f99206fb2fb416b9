from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.ndimage import laplace

from glasshouse.data.image_traits import image_traits, trait_differences
from glasshouse.data.images import ImageSet
from tests.conftest import make_images

FIRST, REST = np.arange(10), np.arange(10, 40)


def changed(change: str) -> ImageSet:
    """Forty images, of which the first ten are changed."""
    images = make_images(40)
    pixels = images.pixels.copy()
    own = pixels[:10].astype(float)
    mean = own.mean(axis=(1, 2, 3), keepdims=True)
    if change == "dark":
        own = own / 4
    elif change == "flat":
        own = mean + (own - mean) / 5
    elif change == "blurred":
        rows = [Image.fromarray(each.transpose(1, 2, 0)) for each in pixels[:10]]
        blurred = [np.asarray(each.filter(ImageFilter.GaussianBlur(1.5))) for each in rows]
        own = np.stack(blurred).transpose(0, 3, 1, 2).astype(float)
    elif change == "grey":
        own = np.repeat(own.mean(axis=1, keepdims=True), 3, axis=1)
    elif change == "red":
        own[:, 0] += 60
    elif change == "blue":
        own[:, 2] += 60
    pixels[:10] = own.clip(0, 255).astype(np.uint8)
    return replace(images, pixels=pixels)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("dark", "darker"), ("flat", "of less contrast"), ("blurred", "more blurred"),
        ("grey", "less colourful"), ("red", "redder"), ("blue", "bluer"),
    ],
)  # fmt: skip
def test_a_change_is_named_and_its_opposite_for_the_others(change: str, words: str) -> None:
    traits = image_traits(changed(change))
    found = trait_differences(traits, FIRST, REST)
    assert words in [each.words for each in found]
    other_way = {each.name for each in trait_differences(traits, REST, FIRST)}
    assert {each.name for each in found} & other_way
    sizes = [abs(each.deviations) for each in found]
    assert sizes == sorted(sizes, reverse=True)


def test_images_alike_differ_in_nothing_and_the_size_of_files_counts_where_it_is_known() -> None:
    images = changed("")
    assert trait_differences(image_traits(images), FIRST, REST) == ()
    sizes = np.full((40, 2), 400, dtype=np.int32)
    sizes[:10] = 90
    sizes[20:] += 10
    (found,) = trait_differences(image_traits(replace(images, sizes=sizes)), FIRST, REST)
    assert found.words == "smaller in their files"
    assert found.mean == pytest.approx(2 * np.log2(90))


def test_values_are_those_of_the_definitions() -> None:
    pixels = np.zeros((1, 3, 4, 4), dtype=np.uint8)
    pixels[0, 0, :, 2:] = 200
    traits = image_traits(ImageSet(pixels, np.zeros(1, np.int64), np.array(["a"]), ("x",)))
    assert traits["brightness"][0] == pytest.approx(0.299 * 100)
    assert traits["contrast"][0] == pytest.approx(0.299 * 100)
    assert traits["redness"][0] == pytest.approx(100 - 0.299 * 100)
    assert traits["colourfulness"][0] == pytest.approx(100)


def test_sharpness_is_that_of_an_independent_laplacian() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 5, 4), dtype=np.uint8)
    grey = np.tensordot([0.299, 0.587, 0.114], pixels[0].astype(float), 1)
    traits = image_traits(ImageSet(pixels, np.zeros(1, np.int64), np.array(["a"]), ("x",)))
    expected = laplace(grey, mode="nearest").std() / grey.std()
    assert traits["sharpness"][0] == pytest.approx(expected)
    assert traits["blueness"][0] == pytest.approx((pixels[0, 2] - grey).mean())


@pytest.mark.parametrize(
    ("count", "distance", "is_found"),
    [(400, 0.79, False), (400, 0.81, True), (8, 1.99, False), (8, 2.01, True)],
)
def test_a_difference_counts_from_its_size_and_its_certainty(
    count: int, distance: float, is_found: bool
) -> None:
    """From 0.8 standard deviations, and from 4 standard errors: of 8 and 8 values, from 2."""
    values = np.tile([-1.0, 1.0], count)
    values[:count] -= distance
    traits = {"brightness": values, "blueness": np.full(2 * count, 7.0)}
    found = trait_differences(traits, np.arange(count), np.arange(count, 2 * count))
    assert bool(found) == is_found
    for each in found:
        assert (each.words, each.other_mean) == ("darker", 0.0)
        assert each.mean == each.deviations == pytest.approx(-distance)


def test_a_difference_of_exactly_four_standard_errors_counts() -> None:
    values = {"brightness": np.array([4.0, 4.0, -1.0, 1.0])}
    (found,) = trait_differences(values, np.arange(2), np.arange(2, 4))
    assert (found.words, found.mean, found.other_mean, found.deviations) == ("brighter", 4, 0, 4)
    values = {"redness": np.tile([0.9, 0.9, -1.0, 1.0], 100)}
    rows = np.flatnonzero(values["redness"] == 0.9)
    (found,) = trait_differences(values, rows, np.setdiff1d(np.arange(400), rows))
    assert found.words == "redder" and found.deviations == pytest.approx(0.9)


def test_hardly_any_contrast_does_not_make_an_image_sharp() -> None:
    pixels = np.zeros((1, 3, 4, 4), dtype=np.uint8)
    pixels[0, :, 1, 2] = 1
    traits = image_traits(ImageSet(pixels, np.zeros(1, np.int64), np.array(["a"]), ("x",)))
    # -4 at one of 16 pixels and 1 at its four neighbours, not divided by a contrast of 0.24.
    assert traits["sharpness"][0] == pytest.approx((20 / 16) ** 0.5)
