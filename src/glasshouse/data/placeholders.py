"""Placeholder cards among photos: "image not found" and the like, as web sites serve them.

A card is a grey or white area of one colour with a line of text or an icon on it. Photos of an
object on an empty background come close, which decides every limit below: their background varies
by more than one grey level, their object has colours, or its outline is crossed only a few times.
"""

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet
from glasshouse.data.pixel_blocks import Images, blocks
from glasshouse.data.targets import class_counts, has_any
from glasshouse.wording import percentage

# Smaller images, enlarged from smaller ones as a rule, have no legible text to recognise.
SMALLEST_SIDE = 48
# Among the 60,000 images of CIFAR-10, enlarged to 64 pixels, these limits leave 2.
_MOST_CHROMA, _GREY_SHARE = 16, 0.97
_FLAT_SHARE = 0.8
_FEWEST_CROSSINGS = 6
_LEAST_CONTRAST = 10.0
# Drawings, scans and logos are flat by nature: a card is unlike the other images of its class.
_MOST_OF_CLASS = 0.25
# The grey bars of a letterboxed image, as `fit_to_size` draws them.
_BAR = 127
PLACEHOLDER_RULE = (
    f"At least {percentage(_FLAT_SHARE, 0)} of the pixels are within one grey level of a single "
    f"value, at least {percentage(_GREY_SHARE, 0)} are colourless, and some row crosses from "
    f"background to ink or back {_FEWEST_CROSSINGS} times or more, as a line of text does. "
    f"Not judged: images below {SMALLEST_SIDE} pixels, and classes in which such flat "
    "images are common."
)


def placeholders_in(images: ImageSet) -> NDArray[np.bool_]:
    """Which images look like placeholder cards, bool ``(n,)``.

    Nothing is marked in images below SMALLEST_SIDE pixels, or in a class more than a quarter of
    whose images are flat and grey.
    """
    none = np.zeros(len(images), dtype=np.bool_)
    if min(images.height, images.width) < SMALLEST_SIDE:
        return none
    crossings = np.concatenate([none[:0].astype(np.int64), *map(_crossings, blocks(images.pixels))])
    is_flat = crossings >= 0
    count = len(images.class_names)
    flat_count = class_counts(images.targets[is_flat], count)
    # One flat image is always an exception, even in a class of three.
    is_common = flat_count > np.maximum(1, _MOST_OF_CLASS * class_counts(images.targets, count))
    is_exception = ~has_any(images.targets, is_common)
    found: NDArray[np.bool_] = (crossings >= _FEWEST_CROSSINGS) & is_exception
    return found


def _crossings(block: Images) -> NDArray[np.int64]:
    """How often the busiest row of each image crosses an edge; -1 for images not flat and grey."""
    found = np.full(len(block), -1, dtype=np.int64)
    is_grey = (np.ptp(block, axis=1) <= _MOST_CHROMA).mean(axis=(1, 2)) >= _GREY_SHARE
    for number in np.flatnonzero(is_grey):
        found[number] = _crossings_on_flat(_without_bars(block[number, 1]))
    return found


def _crossings_on_flat(grey: NDArray[np.uint8]) -> int:
    """The same for one grey image ``(h, w)``; -1 where its background is not of one colour."""
    background = int(np.bincount(grey.ravel(), minlength=256).argmax())
    distance = np.abs(grey.astype(np.int16) - background)
    if (distance <= 1).mean() < _FLAT_SHARE:
        return -1
    # Not the maximum: a few pixels of compression noise must not count as ink.
    contrast = float(np.percentile(distance, 99.5))
    if contrast < _LEAST_CONTRAST:
        return 0
    # A quarter of it, because shrinking makes thin strokes paler.
    is_ink = distance > contrast / 4
    return int((is_ink[:, 1:] != is_ink[:, :-1]).sum(axis=1).max())


def _without_bars(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image without rows and columns at its edges that have the colour of letterbox bars."""
    rows = np.flatnonzero((grey != _BAR).any(axis=1))
    columns = np.flatnonzero((grey != _BAR).any(axis=0))
    if not len(rows):
        return grey
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
