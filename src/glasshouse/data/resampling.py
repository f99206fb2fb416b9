"""A part of an enlarged image, computed without the rest of it, equal to Pillow's resize.

A photo of 3x640 pixels becomes 256x54,613 before its centre is cropped. Pillow computes all of it;
here only what the crop keeps is computed, by the same filters and with the same rounding. Pillow's
own resize of a box gives other pixels: it knows nothing of what is outside the box.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.decode import Pixels

_Floats = NDArray[np.float64]

# Pillow keeps weights as integers: 32 bits less 8 for a value and 2 for what exceeds it.
_BITS = 22
# Of Hamming's window, in the precision in which Pillow has them.
_HIGH, _LOW = float(np.float32(0.54)), float(np.float32(0.46))
# Positions of the nearest pixel are added up in blocks, since there may be millions before a part.
_BLOCK, _MOST_STEPS = 1 << 20, 1 << 26


def enlarged_part(
    image: Pixels, size: tuple[int, int], rows: slice, columns: slice, interpolation: str
) -> Pixels:
    """These rows and columns of an image ``(h, w, 3)`` that is resized to a height and width.

    size: no side is shorter than the image's, since versions of Pillow differ in which side they
    shrink first. Equal to Pillow's resize of the whole; memory is needed for the part alone.
    """
    if interpolation == "nearest":
        down = _nearest(image.shape[0], size[0], rows)
        return image[np.ix_(down, _nearest(image.shape[1], size[1], columns))]
    first, weights = _weights(image.shape[0], size[0], rows, interpolation)
    # Pillow resizes lines first, and rounds them, before it resizes columns.
    used = slice(int(first.min()), min(int(first.max()) + weights.shape[1], image.shape[0]))
    lines = image[used].swapaxes(0, 1)
    across = _weights(image.shape[1], size[1], columns, interpolation)
    return _summed(_summed(lines, *across).swapaxes(0, 1), first - used.start, weights)


def _summed(image: Pixels, first: NDArray[np.int64], weights: NDArray[np.int64]) -> Pixels:
    """Weighted sums of the rows from a first one on, for each row of the result."""
    total = np.full((len(first), *image.shape[1:]), 1 << (_BITS - 1), np.int64)
    for tap in range(weights.shape[1]):
        # Beyond the last row all weights are zero.
        row = np.minimum(first + tap, len(image) - 1)
        total += image[row] * weights[:, tap, None, None]
    return (total >> _BITS).clip(0, 255).astype(np.uint8)


def _weights(
    count: int, wanted: int, part: slice, interpolation: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first pixel that each pixel of the part is made of, and the weights from there on."""
    filter_, reach = _FILTERS[interpolation]
    scale = count / wanted
    centre = (np.arange(part.start, part.stop) + 0.5) * scale
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((centre + reach + 0.5).astype(np.int64), count)
    places = first[:, None] + np.arange(int(2 * reach) + 2)
    values = filter_(places - centre[:, None] + 0.5)
    values[places >= end[:, None]] = 0.0
    # One after the other, as in Pillow: another order may round in another way.
    whole = np.add.accumulate(values, axis=1)[:, -1:]
    values = values / np.where(whole == 0, 1.0, whole) * (1 << _BITS)
    return first, np.trunc(values + np.copysign(0.5, values)).astype(np.int64)


def _nearest(count: int, wanted: int, part: slice) -> NDArray[np.int64]:
    """The nearest pixel to each pixel of the part; steps are added one by one, as in Pillow."""
    step = count / wanted
    # Nobody has the memory in which Pillow could go further.
    if part.stop > _MOST_STEPS:
        places = (np.arange(part.start, part.stop) + 0.5) * step
    else:
        first = step * 0.5
        for start in range(0, part.start, _BLOCK):
            first = float(_sums(first, step, min(_BLOCK, part.start - start))[-1])
        places = _sums(first, step, part.stop - part.start - 1)
    return places.astype(np.int64).clip(0, count - 1)


def _sums(first: float, step: float, steps: int) -> _Floats:
    values = np.full(steps + 1, step)
    values[0] = first
    return np.add.accumulate(values)


def _box(x: _Floats) -> _Floats:
    return ((x > -0.5) & (x <= 0.5)).astype(float)


def _bilinear(x: _Floats) -> _Floats:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _hamming(x: _Floats) -> _Floats:
    angle = np.where(x == 0, 1.0, np.abs(x) * np.pi)
    inside = np.where(x == 0, 1.0, np.sin(angle) / angle * (_HIGH + _LOW * np.cos(angle)))
    return np.where(np.abs(x) < 1, inside, 0.0)


def _bicubic(x: _Floats) -> _Floats:
    """Keys 1981, with a = -0.5."""
    x, a = np.abs(x), -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: _Floats) -> _Floats:
    return np.where((x >= -3) & (x < 3), _sinc(x) * _sinc(x / 3), 0.0)


def _sinc(x: _Floats) -> _Floats:
    angle = np.where(x == 0, 1.0, x * np.pi)
    return np.where(x == 0, 1.0, np.sin(angle) / angle)


# Each with the distance that it reaches, in pixels of the image.
_FILTERS: dict[str, tuple[Callable[[_Floats], _Floats], float]] = {
    "box": (_box, 0.5),
    "bilinear": (_bilinear, 1.0),
    "hamming": (_hamming, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
