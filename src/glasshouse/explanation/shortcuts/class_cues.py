"""What the images of each class have in common: a fixed pattern, a tint, a JPEG quality."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from glasshouse.data.images import ImageSet
from glasshouse.explanation.shortcuts.interventions import compress, luminance

Floats = NDArray[np.float32]

# Not compressed, or so little that nothing of it can be measured.
UNCOMPRESSED = 100
# A quality table changes in small steps where it is coarse.
_QUALITIES = (*range(4, 30), *range(30, 96, 5))
# Compressing again at the same quality changes an image this much less than its neighbours do.
_DIP = 0.35
_IMAGES_OF_CLASS, _IMAGES_COMPRESSED = 500, 400
# What is coarser than this share of the image may be the usual background of a class.
_COARSE = 1 / 16


@dataclass(frozen=True)
class ClassCues:
    """Statistics of each class, from training images.

    patterns ``(k, 3, h, w)``: the fine detail of the mean image. colours ``(k, 3)``: the mean of
    the median colours, 0..255. qualities ``(k,)``: the JPEG quality that most images have been
    compressed with, or 100. colour ``(3,)``: the mean of all images.
    """

    patterns: Floats
    colours: Floats
    qualities: NDArray[np.int64]
    colour: Floats


def class_cues(images: ImageSet) -> ClassCues:
    """What the images of each class have in common; at most 500 images per class are read."""
    count = len(images.class_names)
    shape = (count, 3, images.height, images.width)
    patterns, colours = np.zeros(shape, np.float32), np.zeros((count, 3), np.float32)
    qualities = np.full(count, UNCOMPRESSED)
    per_class = max(4, _IMAGES_COMPRESSED * 64 * 64 // max(64 * 64, images.height * images.width))
    means = []
    for label in range(count):
        rows = images.rows_with(label)[:_IMAGES_OF_CLASS]
        if not len(rows):
            continue
        pixels = np.asarray(images.pixels[rows])
        mean = pixels.mean(axis=0, dtype=np.float64).astype(np.float32)
        patterns[label] = fine_detail(mean)
        colours[label] = np.median(pixels, axis=(2, 3)).mean(axis=0)
        qualities[label] = jpeg_quality(pixels[: max(4, per_class // count)])
        means.append(mean.mean(axis=(1, 2)))
    return ClassCues(patterns, colours, qualities, np.mean(means, axis=0, dtype=np.float32))


def jpeg_quality(images: NDArray[np.uint8]) -> int:
    """The JPEG quality that most of the images were compressed with; 100 where none shows.

    Compressing again at the same quality changes an image least (Farid 2009, JPEG ghosts). Found
    only where images kept their size since, and below a quality of about 90.
    """
    before = luminance(images)
    changes = np.array(
        [((luminance(compress(images, q)) - before) ** 2).mean(axis=(1, 2)) for q in _QUALITIES]
    )
    logs = np.log(changes + 0.05)
    # Against the qualities two steps away, because the nearest have almost the same tables.
    around = np.minimum(logs[4:], logs[:-4])
    dips = np.median(around - logs[2:-2], axis=1)
    if dips.max() <= _DIP:
        return UNCOMPRESSED
    # Twice a quality halves its steps, so that it changes as little: the lowest is the true one.
    return int(_QUALITIES[int(np.flatnonzero(dips >= 0.7 * dips.max())[0]) + 2])


def fine_detail(image: Floats) -> Floats:
    """What is left of ``(3, h, w)`` without its coarse part, which may be a usual background."""
    sigma = max(1.0, min(image.shape[1:]) * _COARSE)
    smooth: Floats = gaussian_filter(image, (0, sigma, sigma), mode="nearest")
    return image - smooth
