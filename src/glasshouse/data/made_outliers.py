"""Images of nothing that a classifier knows, made from images that it knows."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from glasshouse.rng import derive

_Pixels = NDArray[np.uint8]
_Values = NDArray[np.float64]
_SIDE = 4


def made_outliers(pixels: _Pixels, seed: int = 0) -> dict[str, _Pixels]:
    """Outliers of each kind made of uint8 images ``(n, 3, h, w)``, in the same shape.

    blended: the mean of two images. shuffled: sixteen pieces of an image in random order.
    scattered: its pixels in random order. smooth: a random blur of its colours. strokes: a bent
    line of its brightest colour on its darkest, or the other way round. cells: flat pieces of its
    colours. grains: noise of its mean and spread, of one to eight pixels.
    """
    makers: dict[str, Callable[[_Pixels, np.random.Generator], _Pixels]] = {
        "blended": _blended,
        "shuffled": _shuffled,
        "scattered": _scattered,
        "smooth": _smooth,
        "strokes": _strokes,
        "cells": _cells,
        "grains": _grains,
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
    low, high = _extremes(pixels)
    down, across = random.uniform(0, 3, (2, count, channels))
    start = random.uniform(0, 2 * np.pi, (count, channels))
    y = np.linspace(0, 2 * np.pi, height)[None, None, :, None]
    x = np.linspace(0, 2 * np.pi, width)[None, None, None, :]
    wave = np.sin(down[..., None, None] * y + across[..., None, None] * x + start[..., None, None])
    span = (high - low)[..., None, None]
    made: _Pixels = np.rint(low[..., None, None] + span * (wave + 1) / 2).astype(np.uint8)
    return made


def _strokes(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    """Two to five straight pieces, with edges of up to three pixels."""
    made, (y, x) = np.empty_like(pixels), _places(pixels)
    for row, (low, high) in enumerate(zip(*_extremes(pixels), strict=True)):
        points = random.uniform(0.1, 0.9, (random.integers(3, 7), 2))
        width, soft = random.uniform(0.02, 0.1), random.uniform(0.5, 3) / max(y.shape)
        apart = np.full(y.shape, np.inf)
        for start, end in pairwise(points):
            along = end - start
            share = ((y - start[0]) * along[0] + (x - start[1]) * along[1]) / (along @ along)
            share = share.clip(0, 1)
            apart = np.minimum(
                apart, np.hypot(y - start[0] - share * along[0], x - start[1] - share * along[1])
            )
        ink = np.clip((width - apart) / soft + 0.5, 0, 1)
        line, ground = (low, high) if random.random() < 0.5 else (high, low)
        made[row] = np.rint(line[:, None, None] * ink + ground[:, None, None] * (1 - ink))
    return made


def _cells(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    """Two to twelve pieces, each of the colour of a random pixel."""
    made, (y, x) = np.empty_like(pixels), _places(pixels)
    for new, old in zip(made, pixels, strict=True):
        centres = random.uniform(0, 1, (random.integers(2, 13), 2))
        apart = (y[..., None] - centres[:, 0]) ** 2 + (x[..., None] - centres[:, 1]) ** 2
        colours = old.reshape(3, -1)[:, random.integers(0, y.size, len(centres))]
        new[:] = colours[:, apart.argmin(axis=-1)]
    return made


def _grains(pixels: _Pixels, random: np.random.Generator) -> _Pixels:
    made, (height, width) = np.empty_like(pixels), pixels.shape[2:]
    for new, old in zip(made, pixels, strict=True):
        size = 2 ** int(random.integers(0, 4))
        noise = random.normal(size=(3, -(-height // size), -(-width // size)))
        noise = noise.repeat(size, axis=1).repeat(size, axis=2)[:, :height, :width]
        mean, spread = old.mean(axis=(1, 2)), old.std(axis=(1, 2))
        found = mean[:, None, None] + spread[:, None, None] * noise
        new[:] = np.clip(np.rint(found), 0, 255)
    return made


def _extremes(pixels: _Pixels) -> tuple[_Values, _Values]:
    """A dark and a bright value of each channel, ``(n, 3)`` each."""
    low, high = (np.percentile(pixels, share, axis=(2, 3)) for share in (5, 95))
    return low, high


def _places(pixels: _Pixels) -> _Values:
    """Rows and columns ``(2, h, w)``, as shares of the longer side."""
    found: _Values = np.indices(pixels.shape[2:]) / max(pixels.shape[2:])
    return found
