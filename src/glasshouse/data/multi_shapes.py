"""The generated shapes with up to two objects of different classes in an image, each with a mask.

The objects lie on opposite sides of a point near the centre, so that they never overlap: a map can
be held against the object of its own label. A few images have no object, and so no label.
"""

import math

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet
from glasshouse.data.shapes import CLASS_NAMES, Floats, add_objects, clutter, to_pixels
from glasshouse.errors import UsageError
from glasshouse.rng import Keys, keys_of, uniforms

# Two objects need more pixels than one to be distinguished.
DEFAULT_SIZE = 40
_CHUNK = 256
# Shares of the images with no object and with one; all others have two.
_NONE, _ONE = 0.05, 0.3


def make_multi_shapes(
    split: str, count: int, *, size: int = DEFAULT_SIZE, seed: int = 0
) -> ImageSet:
    """Generate images ``(count, 3, size, size)`` with ids like "shapes-multi/train/00042".

    masks ``(count, 10, size, size)``: the object of each label, empty where the image has none.
    Raises UsageError for a size below 40, at which the shapes cannot be distinguished.
    """
    if size < DEFAULT_SIZE:
        raise UsageError(
            f"shapes-multi: expected a size of at least {DEFAULT_SIZE} pixels, received {size}"
        )
    ids = np.array([f"shapes-multi/{split}/{number:05d}" for number in range(count)])
    images = np.empty((count, 3, size, size), dtype=np.uint8)
    masks = np.zeros((count, len(CLASS_NAMES), size, size), dtype=np.bool_)
    for start in range(0, count, _CHUNK):
        rows = slice(start, start + _CHUNK)
        first = np.arange(count, dtype=np.int64)[rows] % len(CLASS_NAMES)
        images[rows], masks[rows] = _draw(keys_of(ids[rows]), first, size, seed)
    return ImageSet(images, np.asarray(masks.any(axis=(2, 3))), ids, CLASS_NAMES, masks)


def _draw(
    keys: Keys, first: NDArray[np.int64], size: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    # Columns: 0 number of objects, 1 second class, 2 direction, 3-4 centre between the objects.
    draws = uniforms(seed, "shapes-multi", 0, keys, 5)
    counts = 2 - (draws[:, 0] < _ONE + _NONE).astype(np.int64) - (draws[:, 0] < _NONE)
    other = 1 + (draws[:, 1] * 9).astype(np.int64)
    canvas = clutter(keys, size, seed)
    masks = np.zeros((len(keys), len(CLASS_NAMES), size, size), dtype=np.bool_)
    for number, labels in enumerate((first, (first + other) % len(CLASS_NAMES))):
        rows = np.flatnonzero(counts > number)
        own = uniforms(seed, f"shapes-multi object {number}", 0, keys[rows], 14)
        places = _places(draws[rows], own, number)
        drawn, found = add_objects(canvas[rows], labels[rows], own, places)
        canvas[rows], masks[rows, labels[rows]] = drawn, found
    return to_pixels(canvas, keys, seed), masks


def _places(draws: Floats, own: Floats, number: int) -> tuple[Floats, Floats]:
    """Centres ``(n, 2)`` on the side of this object, and radii ``(n,)``."""
    radius = 0.24 + 0.1 * own[:, 0]
    angle = draws[:, 2] * 2 * math.pi + number * math.pi
    # Farther apart than two of the largest objects reach: a star's tips are at 1.34 radii.
    side = 0.48 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (side + 0.2 * (draws[:, 3:5] - 0.5)).astype(np.float32), radius
