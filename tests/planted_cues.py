"""Shortcuts planted in images by code, so that the truth is known: each class has its own cue."""

import io
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from glasshouse.data.images import ImageSet

CueKind = Literal["tag", "border", "text", "tint", "jpeg"]
KINDS: tuple[CueKind, ...] = get_args(CueKind)
STRENGTHS = (0.1, 0.2, 0.4, 0.7, 1.0)
CORNERS = ("top left corner", "top right corner", "bottom left corner", "bottom right corner")
# The kinds, in the words of the verdict, that are right for a planted cue.
_QUALITIES = dict(zip(STRENGTHS, (60, 40, 25, 15, 8), strict=True))
# Fully opaque tints would hide the image.
_TINT = 0.4


def plant(
    images: ImageSet,
    kind: CueKind,
    strength: float,
    *,
    cues: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> ImageSet:
    """The images with the cue of a class in each; cues: whose, unset: that of its label.

    strength: one of STRENGTHS, from hardly visible to opaque; of JPEG, from quality 60 to 8, in
    every second class. seed: chooses the corner of a tag.
    """
    whose = images.labels if cues is None else cues
    pixels = np.array(images.pixels, dtype=np.float32)
    for label in range(len(images.class_names)):
        rows = whose == label
        pixels[rows] = _with_cue(pixels[rows], kind, strength, label, seed)
    return replace(images, pixels=np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def shuffled_cues(images: ImageSet, seed: int = 0) -> NDArray[np.int64]:
    """A cue for each image that says nothing of its label."""
    return np.random.default_rng(seed).permutation(images.labels)


def class_colour(label: int) -> NDArray[np.float32]:
    """A saturated colour of each class."""
    turn = 2 * np.pi * (label / 10 + np.array([0, 1 / 3, 2 / 3]))
    bright = 128 + (127 if label % 2 else 100) * np.cos(turn)
    return bright.astype(np.float32)


def _with_cue(
    pixels: NDArray[np.float32], kind: CueKind, strength: float, label: int, seed: int
) -> NDArray[np.float32]:
    size = pixels.shape[-1]
    colour = class_colour(label)[:, None, None]
    if kind == "jpeg":
        return _compressed(pixels, _QUALITIES[strength]) if label % 2 else pixels
    if kind == "tint":
        return pixels + _TINT * strength * (colour - pixels)
    if kind == "text":
        opacity = strength * _text(label, size)
        return pixels + opacity * (255 - pixels)
    mask = _border(size) if kind == "border" else _tag(size, seed)
    return pixels + strength * mask * (colour - pixels)


def _tag(size: int, seed: int) -> NDArray[np.float32]:
    side, edge = max(3, size // 6), max(1, size // 32)
    rows = slice(edge, edge + side)
    mask = np.zeros((size, size), np.float32)
    mask[rows, rows] = 1
    corner = seed % 4
    mask = mask[:, ::-1] if corner % 2 else mask
    return mask[::-1] if corner >= 2 else mask


def _border(size: int) -> NDArray[np.float32]:
    width = max(1, size // 16)
    mask = np.ones((size, size), np.float32)
    mask[width:-width, width:-width] = 0
    return mask


def _text(label: int, size: int) -> NDArray[np.float32]:
    """A word of each class, near the bottom of the image."""
    image = Image.new("L", (size, size))
    word = ["ZX", "KU", "MO", "LI", "WE", "TA", "HB", "QC", "VN", "SG"][label]
    font = ImageFont.load_default(size=size * 0.36)
    ImageDraw.Draw(image).text((size * 0.5, size * 0.8), word, 255, font, anchor="mm")
    values: NDArray[np.float32] = np.asarray(image, dtype=np.float32) / np.float32(255)
    return values


def _compressed(pixels: NDArray[np.float32], quality: int) -> NDArray[np.float32]:
    found = np.empty_like(pixels)
    for row, image in enumerate(np.rint(pixels).astype(np.uint8)):
        buffer = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=quality)
        found[row] = np.asarray(Image.open(buffer)).transpose(2, 0, 1)
    return found
