"""From a decoded image to the input of a network."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glasshouse.data.decode import Pixels, fit_to_size
from glasshouse.errors import DataError


@dataclass(frozen=True)
class Preprocessing:
    """How a decoded image becomes the input of a network.

    mean and std: one value per channel in units of 0..1; mean 0 and std 1 only rescale to 0..1.
    crop_fraction: the share of each side of the resized image that is kept around its centre;
    0.875 is the common crop from 256 to 224 pixels.
    """

    height: int
    width: int
    resize: Literal["crop", "letterbox", "stretch"] = "crop"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop_fraction: float = 1.0


def preprocess(image: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Bring a decoded image ``(h, w, 3)`` to the network's size: uint8 ``(3, height, width)``.

    image: what ``decode`` returns, or any 8-bit RGB array of that layout. With a crop_fraction of
    0.875, the convention for ImageNet, 224 of 256 pixels are kept. Raises DataError for an array
    of another layout or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(
            "preprocess: expected a decoded image of shape (height, width, 3) and type uint8, "
            f"received shape {image.shape} and type {image.dtype}; read image files with decode"
        )
    fitted = fit_to_size(image, *resized_size(preprocessing), preprocessing.resize)
    return crop_centre(fitted, preprocessing)


def resized_size(preprocessing: Preprocessing) -> tuple[int, int]:
    """The height and width that an image is resized to before its centre is cropped."""
    # Resizing to the larger size first keeps the field of view that the weights were trained on.
    wanted = preprocessing.height, preprocessing.width
    height, width = (max(round(side / preprocessing.crop_fraction), side) for side in wanted)
    return height, width


def crop_centre(resized: Pixels, preprocessing: Preprocessing) -> Pixels:
    """The centre of an image of ``resized_size``, channels first, that the network receives."""
    height, width = preprocessing.height, preprocessing.width
    top, left = (resized.shape[1] - height) // 2, (resized.shape[2] - width) // 2
    return np.ascontiguousarray(resized[:, top : top + height, left : left + width])


def scale(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Normalise uint8 or float images in 0..255 ``(n, 3, h, w)``: the network's input, float32."""
    mean, std = (torch.from_numpy(each).to(images.device) for each in _mean_and_std(preprocessing))
    # In place, which saves a copy of the batch at every step.
    return (images.float() - mean).div_(std)


@lru_cache(maxsize=64)
def _mean_and_std(preprocessing: Preprocessing) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """In units of 0..255 ``(1, 3, 1, 1)``; cached, because it is needed in every training step."""
    mean, std = (
        np.array(each, dtype=np.float32).reshape(1, 3, 1, 1) * np.float32(255)
        for each in (preprocessing.mean, preprocessing.std)
    )
    return mean, std
