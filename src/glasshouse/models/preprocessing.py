"""From a decoded image to the input of a network."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from glasshouse.data.decode import Pixels
from glasshouse.data.fitting import GREY, Colour, Fitting, Interpolation, Resize, Rounding, fit
from glasshouse.errors import DataError, ModelError

# A level of 0..1 that is far beyond any image, yet leaves its logits finite in float32.
_LARGEST, _SMALLEST = 1e6, 1e-6
LONGEST_SIDE = 8192


@dataclass(frozen=True)
class Preprocessing:
    """How a decoded image becomes the input of a network.

    mean and std: one value per channel in units of 0..1; mean 0 and std 1 only rescale to 0..1.
    crop_fraction: the share of each side of the resized image that is kept around its centre;
    0.875 is the common crop from 256 to 224 pixels. interpolation: the filter of Pillow's resize,
    which is the one that torchvision and timm use on images. rounding: "none" crops in fractions of
    a pixel and then resizes, as images are read for training; "torchvision" and "timm" resize, crop
    whole pixels and round as the transforms of that library, to the pixel.
    """

    height: int
    width: int
    resize: Resize = "crop"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop_fraction: float = 1.0
    interpolation: Interpolation = "bicubic"
    rounding: Rounding = "none"

    def __post_init__(self) -> None:
        """Raises ModelError for a size or levels that no image can be brought to."""
        is_size = all(0 < side <= LONGEST_SIDE for side in (self.height, self.width))
        if not is_size or not 0 < self.crop_fraction <= 2:
            raise ModelError(
                f"expected sides of 1 to {LONGEST_SIDE} pixels and a crop fraction of up to 2, "
                f"received {self.width}x{self.height} and {self.crop_fraction}"
            )
        # In units of 0..255 and float32, as `scale` computes.
        is_usable = all(abs(value) < _LARGEST for value in (*self.mean, *self.std))
        if not is_usable or not all(value > _SMALLEST for value in self.std):
            raise ModelError(
                "expected finite means and positive deviations in units of 0..1, received "
                f"mean {self.mean} and std {self.std}"
            )

    @property
    def fitting(self) -> Fitting:
        """What decides the pixels, before they are normalised."""
        return Fitting(
            height=self.height,
            width=self.width,
            resize=self.resize,
            crop_fraction=self.crop_fraction,
            interpolation=self.interpolation,
            rounding=self.rounding,
            bars=self._bars(),
        )

    def _bars(self) -> Colour:
        # timm fills the bars with the mean, which normalisation turns into zero.
        if self.rounding == "none":
            return GREY
        red, green, blue = (round(255 * value) for value in self.mean)
        return red, green, blue


def preprocess(image: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Bring a decoded image ``(h, w, 3)`` to the network's size: uint8 ``(3, height, width)``.

    image: what ``decode`` returns, or any 8-bit RGB array of that layout. Raises DataError for an
    array of another layout or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(
            "preprocess: expected a decoded image of shape (height, width, 3) and type uint8, "
            f"received shape {image.shape} and type {image.dtype}; read image files with decode"
        )
    return fit(image, preprocessing.fitting)


def scale(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Normalise uint8 or float images in 0..255 ``(n, 3, h, w)``: the network's input, float32."""
    mean, std = _mean_and_std(preprocessing, images.device)
    if mean is None:
        return images.float() / std
    # In place, which saves a copy of the batch at every step.
    return (images.float() - mean).div_(std)


# Cached, because they are needed in every training step, and moving them waits for the device.
@lru_cache(maxsize=64)
def _mean_and_std(
    preprocessing: Preprocessing, device: torch.device
) -> tuple[Tensor | None, Tensor]:
    """In units of 0..255 ``(1, 3, 1, 1)``; None for a mean of zero, which changes nothing."""
    with torch.inference_mode(False):
        mean, std = (
            torch.tensor(each, dtype=torch.float32).reshape(1, 3, 1, 1).mul_(255).to(device)
            for each in (preprocessing.mean, preprocessing.std)
        )
    return (mean if any(preprocessing.mean) else None), std
