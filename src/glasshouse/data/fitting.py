"""A decoded image brought to one size: how it is resized, with which filter, and cropped.

Data sets are cropped in fractions of a pixel and then resized. torchvision and timm resize first,
crop whole pixels, and round differently; the weights that they publish are measured in that way.
"""

import math
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from PIL import Image

from glasshouse.data.decode import Pixels
from glasshouse.data.images import Resize as Resize
from glasshouse.data.resampling import enlarged_part

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Rounding = Literal["none", "torchvision", "timm"]
Colour = tuple[int, int, int]

# The bars of a letterbox are mid-grey, which is about zero after standardisation.
GREY: Colour = (127, 127, 127)
_BLACK: Colour = (0, 0, 0)
_MOST_PIXELS = 1 << 24
_WHOLE = ("height", "width", "resize")


@dataclass(frozen=True)
class Fitting:
    """The size that every image is brought to, and how.

    crop_fraction: the share of each side of the resized image that is kept around its centre.
    rounding: "none" crops fractions of a pixel before resizing; "torchvision" and "timm" crop whole
    pixels afterwards, equal to the transforms of that library to the pixel. bars: the colour of the
    bars of a letterbox.
    """

    height: int
    width: int
    resize: Resize = "crop"
    crop_fraction: float = 1.0
    interpolation: Interpolation = "bicubic"
    rounding: Rounding = "none"
    bars: Colour = GREY

    @property
    def key(self) -> tuple[str, ...]:
        """What decides the pixels, for the names of caches; the usual values are left out."""
        others = (f for f in fields(self) if f.name not in _WHOLE)
        changed = [f"{f.name}={v}" for f in others if (v := getattr(self, f.name)) != f.default]
        return (str(self.height), str(self.width), self.resize, *changed)


def fit(image: Pixels, fitting: Fitting) -> Pixels:
    """Bring an image ``(h, w, 3)`` to channels-first uint8 ``(3, height, width)``."""
    fitted = (
        _fit_exactly(image, fitting)
        if fitting.rounding == "none"
        else _fit_as_library(image, fitting)
    )
    return np.ascontiguousarray(fitted.transpose(2, 0, 1))


def fit_to_size(image: Pixels, height: int, width: int, resize: Resize = "crop") -> Pixels:
    """Resize an image ``(h, w, 3)`` to channels-first uint8 ``(3, height, width)``.

    crop keeps the centre, letterbox adds grey bars, stretch changes the aspect ratio. The
    interpolation is bicubic with antialiasing: sharper than bilinear, with less ringing than
    Lanczos, and common for pretrained networks.
    """
    return fit(image, Fitting(height, width, resize))


def _fit_exactly(image: Pixels, fitting: Fitting) -> Pixels:
    """The image cropped in fractions of a pixel, then resized, which keeps its very centre."""
    wanted = fitting.height, fitting.width
    # Resizing to the larger size first keeps the field of view that the weights were trained on.
    height, width = (max(round(side / fitting.crop_fraction), side) for side in wanted)
    if fitting.resize == "letterbox":
        scale = min(height / image.shape[0], width / image.shape[1])
        rows = min(height, max(1, round(image.shape[0] * scale)))
        columns = min(width, max(1, round(image.shape[1] * scale)))
        inner = _resample(image, rows, columns, fitting)
        fitted = np.full((height, width, 3), fitting.bars, dtype=np.uint8)
        top, left = (height - rows) // 2, (width - columns) // 2
        fitted[top : top + rows, left : left + columns] = inner
    else:
        box = _middle(image.shape[:2], height, width) if fitting.resize == "crop" else None
        fitted = _resample(image, height, width, fitting, box)
    top, left = (height - fitting.height) // 2, (width - fitting.width) // 2
    return fitted[top : top + fitting.height, left : left + fitting.width]


def _fit_as_library(image: Pixels, fitting: Fitting) -> Pixels:
    """The image resized to whole pixels, then cropped or padded: CenterCrop and CenterCropOrPad."""
    rows, columns = _resized_size(image.shape[:2], fitting)
    fill = fitting.bars if fitting.resize == "letterbox" else _BLACK
    fitted = np.full((fitting.height, fitting.width, 3), fill, dtype=np.uint8)
    (source, target), (across, along) = (
        _overlap(*sides) for sides in ((rows, fitting.height), (columns, fitting.width))
    )
    # An image of 60,000x1 pixels would become huge, although nearly all of that is cropped.
    room = max(_MOST_PIXELS, image.size, 4 * fitting.height * fitting.width)
    if fitting.resize == "crop" and rows * columns > room:
        size = rows, columns
        fitted[target, along] = enlarged_part(image, size, source, across, fitting.interpolation)
    else:
        fitted[target, along] = _resample(image, rows, columns, fitting)[source, across]
    return fitted


def _resized_size(size: tuple[int, ...], fitting: Fitting) -> tuple[int, int]:
    """Rows and columns before the crop: torchvision's Resize, timm's ResizeKeepRatio."""
    whole = round if fitting.rounding == "torchvision" else math.floor
    height, width = (
        whole(side / fitting.crop_fraction) for side in (fitting.height, fitting.width)
    )
    if fitting.resize == "stretch":
        return height, width
    if fitting.resize == "crop" and height == width:
        short, long = min(size), max(size)
        # In this order: multiplying by long / short would round differently.
        longer = int(height * long / short)
        return (height, longer) if size[0] == short else (longer, height)
    ratios = size[0] / height, size[1] / width
    ratio = min(ratios) if fitting.resize == "crop" else max(ratios)
    return max(1, round(size[0] / ratio)), max(1, round(size[1] / ratio))


def _overlap(size: int, wanted: int) -> tuple[slice, slice]:
    """Which pixels of a side are taken, and where they are put, with both centred."""
    # A half is rounded to the even number, as the libraries do.
    first = max(0, round((size - wanted) / 2))
    before = max(0, (wanted - size) // 2)
    count = min(size, wanted)
    return slice(first, first + count), slice(before, before + count)


def _resample(
    image: Pixels,
    height: int,
    width: int,
    fitting: Fitting,
    box: tuple[float, float, float, float] | None = None,
) -> Pixels:
    if image.shape[:2] == (height, width) and box in (None, (0, 0, width, height)):
        return image
    # Pillow's filters grow with the factor of a reduction, which other libraries call antialiasing.
    filter_ = Image.Resampling[fitting.interpolation.upper()]
    resized = Image.fromarray(image).resize((width, height), filter_, box=box)
    return np.asarray(resized, dtype=np.uint8)


def _middle(size: tuple[int, ...], height: int, width: int) -> tuple[float, float, float, float]:
    """The largest centred box of the target aspect ratio: left, top, right, bottom in pixels.

    Cropping comes before scaling: the other way round, an image of 60,000x1 pixels would become
    huge.
    """
    scale = min(size[0] / height, size[1] / width)
    # Rounding can make a product larger than the side itself, and Pillow refuses such a box.
    rows, columns = min(height * scale, size[0]), min(width * scale, size[1])
    left, top = (size[1] - columns) / 2, (size[0] - rows) / 2
    return (left, top, min(left + columns, size[1]), min(top + rows, size[0]))
