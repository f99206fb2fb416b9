import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glasshouse.data.decode import decode
from glasshouse.data.fitting import fit_to_size
from glasshouse.errors import DataError, ModelError
from glasshouse.models.preprocessing import Preprocessing, preprocess, scale


def test_scaling_is_in_units_of_the_whole_range() -> None:
    preprocessing = Preprocessing(1, 1, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    assert scale(images, preprocessing).flatten().tolist() == pytest.approx([0.0, 1.0, -3.2])
    assert torch.equal(scale(images, Preprocessing(1, 1)), images / torch.tensor(255.0))


def test_without_a_crop_preprocessing_is_resizing() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    prepared = preprocess(image, Preprocessing(32, 24))
    assert np.array_equal(prepared, fit_to_size(image, 32, 24, "crop"))


def test_a_crop_fraction_keeps_the_centre_of_a_larger_image() -> None:
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    prepared = preprocess(image, Preprocessing(224, 224, crop_fraction=0.875))
    assert prepared.shape == (3, 224, 224)
    assert np.array_equal(prepared, fit_to_size(image, 256, 256, "crop")[:, 16:240, 16:240])


@pytest.mark.parametrize(("height", "width"), [(20, 60), (60, 20), (21, 33)])
def test_the_centre_of_an_image_that_is_not_square_is_kept(height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (120, 130, 3), dtype=np.uint8)
    wanted = Preprocessing(height, width, crop_fraction=0.6)
    tall, wide = round(height / 0.6), round(width / 0.6)
    top, left = (tall - height) // 2, (wide - width) // 2
    whole = fit_to_size(image, tall, wide, "crop")
    expected = whole[:, top : top + height, left : left + width]
    assert np.array_equal(preprocess(image, wanted), expected)


def test_a_decoded_file_is_accepted_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    stream.seek(0)
    expected = preprocess(image, Preprocessing(32, 24))
    assert np.array_equal(preprocess(decode(stream), Preprocessing(32, 24)), expected)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((3, 40, 50), np.uint8),
        np.zeros((40, 50), np.uint8),
        np.zeros((40, 50, 3), np.float32),
        np.zeros((0, 50, 3), np.uint8),
    ],
)
def test_an_array_that_is_no_decoded_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"expected a decoded image of shape \(height, width, 3\)"):
        preprocess(image, Preprocessing(32, 24))


@pytest.mark.parametrize(
    "levels",
    [{"mean": (0.0, 1e300, 0.0)}, {"mean": (math.nan,) * 3}, {"std": (1.0, 0.0, 1.0)},
     {"std": (1.0, 1.0, math.inf)}, {"std": (-0.2,) * 3}],
)  # fmt: skip
def test_levels_that_no_image_can_be_normalised_with_are_refused(levels: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="finite means and positive deviations"):
        Preprocessing(8, 8, **levels)


@pytest.mark.parametrize(
    "values", [{"height": -3}, {"width": 0}, {"width": 10**6}, {"crop_fraction": 0.0},
               {"crop_fraction": math.nan}, {"crop_fraction": 3.0}],
)  # fmt: skip
def test_a_size_that_no_image_can_be_brought_to_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="expected sides of 1 to 8192 pixels"):
        Preprocessing(**{"height": 8, "width": 8, **values})
