"""Images of nothing that a classifier knows, made from images that it knows."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from glasshouse.rng import derive

_Pixels = NDArray[np.uint8]
_SIDE = 4


def made_outliers(pixels: _Pixels, seed: int = 0) -> dict[str, _Pixels]:
    """Outliers of each kind made of uint8 images ``(n, 3, h, w)``, in the same shape.

    blended: the mean of two images. shuffled: sixteen pieces of an image in random order.
    scattered: its pixels in random order. smooth: a random blur of its colours.
    """
    makers: dict[str, Callable[[_Pixels, np.random.Generator], _Pixels]] = {
        "blended": _blended,
        "shuffled": _shuffled,
        "scattered": _scattered,
        "smooth": _smooth,
    }
    return {
        kind: make(pixels, np.random.default_rng(derive(seed, "outliers", kind)))
        for kind, make in makers.items()
    }


def _blended(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    # A shift by at least one place: no image is blended with itself.
    others = np.roll(pixels, random.integers(1, max(2, len(pixels))), axis=0)
    return ((pixels.astype(np.uint16) + others + 1) // 2).astype(np.uint8)


def _shuffled(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    made = pixels.copy()
    # What is left over at the right and at the bottom stays where it is.
    down, across = (size // _SIDE for size in pixels.shape[2:])
    places = [
        (slice(i * down, (i + 1) * down), slice(j * across, (j + 1) * across))
        for i in range(_SIDE)
        for j in range(_SIDE)
    ]
    for new, old in zip(made, pixels, strict=True):
        for to, place in zip(places, random.permutation(len(places)), strict=True):
            new[:, *to] = old[:, *places[place]]
    return made


def _scattered(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    count, channels, height, width = pixels.shape
    flat = pixels.reshape(count, channels, height * width)
    orders = random.permuted(np.tile(np.arange(height * width), (count, 1)), axis=1)
    return np.take_along_axis(flat, orders[:, None], axis=2).reshape(pixels.shape)


def _smooth(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    """Waves of a few cycles along each axis, between the darkest and brightest colours."""
    count, channels, height, width = pixels.shape
    low, high = (np.percentile(pixels, share, axis=(2, 3)) for share in (5, 95))
    down, across = random.uniform(0, 3, (2, count, channels))
    start = random.uniform(0, 2 * np.pi, (count, channels))
    y = np.linspace(0, 2 * np.pi, height)[None, None, :, None]
    x = np.linspace(0, 2 * np.pi, width)[None, None, None, :]
    wave = np.sin(down[..., None, None] * y + across[..., None, None] * x + start[..., None, None])
    span = (high - low)[..., None, None]
    made: _Pixels = np.rint(low[..., None, None] + span * (wave + 1) / 2).astype(np.uint8)
    return made
