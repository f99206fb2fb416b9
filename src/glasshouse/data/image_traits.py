"""What images look like in numbers, and in which of them some differ from others."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet
from glasshouse.data.pixel_blocks import blocks

# ITU-R BT.601, as in the grey images of Pillow.
_LUMINANCE = np.array([0.299, 0.587, 0.114])[:, None, None]
# Differences of means, in standard deviations, that are called large (Cohen 1988), and in standard
# errors, of which fewer are often due to chance where several traits are compared.
_LARGE, _CERTAIN = 0.8, 4.0

Trait = NDArray[np.float64]
# What images are where a trait is lower, and where it is higher.
_WORDS: Mapping[str, tuple[str, str]] = {
    "brightness": ("darker", "brighter"),
    "contrast": ("of less contrast", "of more contrast"),
    "sharpness": ("more blurred", "sharper"),
    "colourfulness": ("less colourful", "more colourful"),
    "redness": ("less red", "redder"),
    "blueness": ("less blue", "bluer"),
    "file size": ("smaller in their files", "larger in their files"),
}


@dataclass(frozen=True)
class TraitDifference:
    """A trait in which some images differ from others.

    mean, other_mean: of the trait. deviations: their difference, in standard deviations of the
    others.
    """

    name: str
    words: str
    mean: float
    other_mean: float
    deviations: float


def image_traits(images: ImageSet) -> dict[str, Trait]:
    """Each trait ``(n,)`` of a set.

    brightness: mean luminance, 0..255. contrast: its standard deviation. sharpness: that of its
    Laplacian, relative to the contrast. colourfulness: the mean distance between the largest and
    the smallest channel. redness and blueness: mean distance of a channel from the luminance.
    file size: pixels of the image in its file, on a logarithmic scale, where it is known.
    """
    parts = [_traits_of(block.astype(np.float64)) for block in blocks(images.pixels)]
    traits = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if images.sizes is not None:
        traits["file size"] = np.log2(images.sizes.astype(np.float64).prod(axis=1))
    return traits


def trait_differences(
    traits: Mapping[str, Trait], rows: NDArray[np.int64], others: NDArray[np.int64]
) -> tuple[TraitDifference, ...]:
    """The traits in which images clearly differ from others, by 0.8 standard deviations or more.

    Largest first; differences of less than four standard errors are left out.
    """
    found = []
    certain = _CERTAIN * float(np.sqrt(1 / len(rows) + 1 / len(others)))
    for name, values in traits.items():
        spread = float(values[others].std())
        mean, other_mean = float(values[rows].mean()), float(values[others].mean())
        deviations = (mean - other_mean) / spread if spread > 0 else 0.0
        if abs(deviations) >= max(_LARGE, certain):
            words = _WORDS[name][int(deviations > 0)]
            found.append(TraitDifference(name, words, mean, other_mean, deviations))
    return tuple(sorted(found, key=lambda each: -abs(each.deviations)))


def _traits_of(pixels: NDArray[np.float64]) -> dict[str, Trait]:
    grey = (pixels * _LUMINANCE).sum(axis=1)
    contrast = grey.std(axis=(1, 2))
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    laplacian = (
        padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    ) - 4 * grey
    return {
        "brightness": grey.mean(axis=(1, 2)),
        "contrast": contrast,
        "sharpness": laplacian.std(axis=(1, 2)) / np.maximum(contrast, 1.0),
        "colourfulness": np.ptp(pixels, axis=1).mean(axis=(1, 2)),
        "redness": (pixels[:, 0] - grey).mean(axis=(1, 2)),
        "blueness": (pixels[:, 2] - grey).mean(axis=(1, 2)),
    }
