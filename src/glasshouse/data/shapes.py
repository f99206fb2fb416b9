"""Generated images with known ground truth: ten classes of shapes and textures, with masks.

Each image is a pure function of (seed, id, size): an object of random colour, position, size and
rotation in front of a background of soft waves, lines and blobs. The clutter never looks like one
of the ten objects: lines enclose no area, blobs have no texture. All classes have the same
distribution of colours and objects of equal area, so only the shape or texture reveals the class.
Objects are small enough to be anywhere: the centre of the image is on the object in one of five.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet
from glasshouse.errors import UsageError
from glasshouse.rng import Keys, keys_of, uniforms

Floats = NDArray[np.float32]

DEFAULT_SIZE = 32
_CHUNK = 256
_LINES = 3
_BLOBS = 2
_WAVES = 3
_NOISE = 0.04


def make_shapes(split: str, count: int, *, size: int = DEFAULT_SIZE, seed: int = 0) -> ImageSet:
    """Generate images ``(count, 3, size, size)`` with masks and ids like "shapes/train/00042".

    Classes alternate, so that any count is balanced. Raises UsageError for a size below 32, at
    which the shapes cannot be distinguished.
    """
    if size < DEFAULT_SIZE:
        raise UsageError(
            f"shapes: expected a size of at least {DEFAULT_SIZE} pixels, received {size}"
        )
    ids = np.array([f"shapes/{split}/{number:05d}" for number in range(count)])
    labels = np.arange(count, dtype=np.int64) % len(CLASS_NAMES)
    images = np.empty((count, 3, size, size), dtype=np.uint8)
    masks = np.empty((count, size, size), dtype=np.bool_)
    for start in range(0, count, _CHUNK):
        rows = slice(start, start + _CHUNK)
        images[rows], masks[rows] = _draw(keys_of(ids[rows]), labels[rows], size, seed)
    return ImageSet(images, labels, ids, CLASS_NAMES, masks)


def _draw(
    keys: Keys, labels: NDArray[np.int64], size: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    draws = uniforms(seed, "shapes object", 0, keys, 14)
    radius = 0.26 + 0.2 * draws[:, 0]
    centre = (draws[:, 1:3] * 2 - 1) * (0.95 - radius)[:, None]
    canvas, masks = add_objects(clutter(keys, size, seed), labels, draws, (centre, radius))
    return to_pixels(canvas, keys, seed), masks


def clutter(keys: Keys, size: int, seed: int) -> Floats:
    """Backgrounds without an object ``(n, 3, size, size)``: waves, blobs and lines."""
    x, y = _grid(size)
    canvas = _background(uniforms(seed, "shapes background", 0, keys, 9 * _WAVES), x, y)
    for number in range(_BLOBS):
        canvas = _add_blob(canvas, uniforms(seed, f"shapes blob {number}", 0, keys, 9), x, y)
    for number in range(_LINES):
        canvas = _add_line(canvas, uniforms(seed, f"shapes line {number}", 0, keys, 8), x, y)
    return canvas


def to_pixels(canvas: Floats, keys: Keys, seed: int) -> NDArray[np.uint8]:
    """The finished images with a little noise."""
    noise = uniforms(seed, "shapes noise", 0, keys, int(np.prod(canvas.shape[1:])))
    noisy = canvas + (noise.reshape(canvas.shape) - 0.5) * (2 * _NOISE)
    pixels: NDArray[np.uint8] = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
    return pixels


def _grid(size: int) -> tuple[Floats, Floats]:
    """Pixel centres from -1 to 1, ``(1, size, size)`` each."""
    steps = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
    return (
        np.broadcast_to(steps[None, None, :], (1, size, size)),
        np.broadcast_to(steps[None, :, None], (1, size, size)),
    )


def _background(draws: Floats, x: Floats, y: Floats) -> Floats:
    """A few soft waves of colour ``(n, 3, size, size)``."""
    canvas = np.full((len(draws), 3, *x.shape[1:]), 0.0, dtype=np.float32)
    for wave in draws.reshape(len(draws), _WAVES, 9).transpose(1, 0, 2):
        angle, speed, phase = _wide(wave[:, 0] * 2 * math.pi, 1 + 3 * wave[:, 1], wave[:, 2] * 7)
        height = np.cos((np.cos(angle) * x + np.sin(angle) * y) * speed + phase) * 0.5 + 0.5
        colours = wave[:, 3:9].reshape(-1, 2, 3, 1, 1)
        canvas += colours[:, 0] + (colours[:, 1] - colours[:, 0]) * height[:, None]
    return (canvas / _WAVES).astype(np.float32)


def _add_blob(canvas: Floats, draws: Floats, x: Floats, y: Floats) -> Floats:
    dx, dy = _placed(draws[:, :2] * 2.2 - 1.1, 0.15 + 0.25 * draws[:, 2], draws[:, 3], x, y)
    distance = _blob(dx, dy, draws[:, 4]) * _wide(0.15 + 0.25 * draws[:, 2])[0]
    return _paint(canvas, distance, draws[:, 5:8, None, None])


def _add_line(canvas: Floats, draws: Floats, x: Floats, y: Floats) -> Floats:
    dx, dy = _placed(draws[:, :2] * 2 - 1, np.ones(len(draws), np.float32), draws[:, 2], x, y)
    (half,) = _wide(0.2 + 0.7 * draws[:, 3])
    distance = np.hypot(np.maximum(np.abs(dx) - half, 0), dy) - np.float32(0.035)
    return _paint(canvas, distance, draws[:, 4:7, None, None])


def add_objects(
    canvas: Floats, labels: NDArray[np.int64], draws: Floats, places: tuple[Floats, Floats]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Canvases with an object of each label, and the masks ``(n, size, size)`` of the objects.

    draws: uniform ``(n, 14)``, for rotation, texture and colours. places: centres ``(n, 2)`` and
    radii ``(n,)`` on a canvas from -1 to 1.
    """
    centre, radius = places
    size = canvas.shape[-1]
    x, y = _grid(size)
    distance = np.empty((len(labels), size, size), dtype=np.float32)
    tint = np.ones_like(distance)
    for label, (name, area) in enumerate(_AREAS.items()):
        rows = labels == label
        scale = radius[rows] * np.float32(math.sqrt(math.pi * 0.7 / area))
        u, v = _placed(centre[rows], scale, draws[rows, 3], x, y)
        distance[rows] = _FORMS[name](u, v, draws[rows, 4]) * _wide(scale)[0]
        if name in _TEXTURES:
            tint[rows] = _TEXTURES[name](u, v, draws[rows, 5])
    masks = distance < 0
    colours = _contrasting(canvas, masks, draws[:, 6:9], draws[:, 9])
    shaded = _two_tones(colours, tint, draws[:, 10])
    return _paint(canvas, distance, shaded), masks


def _contrasting(canvas: Floats, masks: NDArray[np.bool_], colour: Floats, draw: Floats) -> Floats:
    """Colours ``(n, 3, 1, 1)`` whose brightness differs from that of the background they cover."""
    covered = (canvas.mean(axis=1) * masks).sum(axis=(1, 2)) / np.maximum(1, masks.sum(axis=(1, 2)))
    aim = np.where(covered > 0.5, covered - 0.25 - 0.2 * draw, covered + 0.25 + 0.2 * draw)
    shifted = colour + (aim - colour.mean(axis=1))[:, None]
    colours: Floats = shifted.clip(0, 1).astype(np.float32)[:, :, None, None]
    return colours


def _two_tones(colours: Floats, tint: Floats, draw: Floats) -> Floats:
    """A darker or lighter second tone for textures, where tint is 0."""
    (step,) = _wide(np.where(draw < 0.5, -0.45 + 0.3 * draw, 0.15 + 0.3 * draw).astype(np.float32))
    return colours + ((1 - tint) * step)[:, None]


def _paint(canvas: Floats, distance: Floats, colours: Floats) -> Floats:
    """Colour where the distance is negative, with an antialiased edge one pixel wide."""
    pixel = 2 / canvas.shape[-1]
    cover = (0.5 - distance / np.float32(pixel)).clip(0, 1)[:, None]
    painted: Floats = canvas + (colours - canvas) * cover
    return painted


def _placed(
    centre: Floats, scale: Floats, turn: Floats, x: Floats, y: Floats
) -> tuple[Floats, Floats]:
    """The grid in the object's coordinates: shifted, rotated and scaled, ``(n, size, size)``."""
    cx, cy, unit, angle = _wide(centre[:, 0], centre[:, 1], scale, turn * (2 * math.pi))
    dx, dy = (x - cx) / unit, (y - cy) / unit
    cosine, sine = np.cos(angle), np.sin(angle)
    return dx * cosine + dy * sine, dy * cosine - dx * sine


def _wide(*values: Floats) -> tuple[Floats, ...]:
    return tuple(value.astype(np.float32)[:, None, None] for value in values)


# Shapes as approximate signed distances to the edge: negative inside, in units of the radius.


def _circle(u: Floats, v: Floats, draw: Floats) -> Floats:
    return np.hypot(u, v) - np.float32(0.85)


def _ring(u: Floats, v: Floats, draw: Floats) -> Floats:
    return np.abs(np.hypot(u, v) - np.float32(0.75)) - np.float32(0.22)


def _crescent(u: Floats, v: Floats, draw: Floats) -> Floats:
    distance: Floats = np.maximum(np.hypot(u, v) - 0.95, 0.72 - np.hypot(u - np.float32(0.5), v))
    return distance


def _triangle(u: Floats, v: Floats, draw: Floats) -> Floats:
    half = np.float32(math.sqrt(3) / 2)
    return np.maximum(np.maximum(v, half * u - v / 2), -half * u - v / 2) - np.float32(0.5)


def _square(u: Floats, v: Floats, draw: Floats) -> Floats:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.75)


def _star(u: Floats, v: Floats, draw: Floats) -> Floats:
    fifth = np.float32(2 * math.pi / 5)
    angle = np.abs((np.arctan2(v, u) + fifth / 2) % fifth - fifth / 2)
    reach = np.hypot(u, v)
    # By symmetry, one straight edge from tip to notch stands for all ten.
    notch_x, notch_y = 0.42 * math.cos(math.pi / 5), 0.42 * math.sin(math.pi / 5)
    length = math.hypot(notch_x - 1, notch_y)
    along = (reach * np.cos(angle) - 1) * np.float32(notch_y / length)
    distance: Floats = along - reach * np.sin(angle) * np.float32((notch_x - 1) / length)
    return distance


def _cross(u: Floats, v: Floats, draw: Floats) -> Floats:
    a, b = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(a - 0.95, b - 0.28), np.maximum(a - 0.28, b - 0.95))


def _heart(u: Floats, v: Floats, draw: Floats) -> Floats:
    box = np.maximum(np.abs(u), np.abs(v)) - np.float32(0.5)
    lobes = np.minimum(np.hypot(u - 0.5, v), np.hypot(u, v - np.float32(0.5))) - np.float32(0.5)
    distance: Floats = np.minimum(box, lobes)
    return distance


def _blob(u: Floats, v: Floats, draw: Floats) -> Floats:
    angle = np.arctan2(v, u)
    (phase,) = _wide(draw * (2 * math.pi))
    waves = 1 + 0.16 * np.cos(2 * angle + phase) + 0.12 * np.cos(3 * angle + 2 * phase)
    return (np.hypot(u, v) - np.float32(0.8) * waves).astype(np.float32)


def _stripes(u: Floats, v: Floats, draw: Floats) -> Floats:
    return _tone(np.sin(u * _pace(draw)))


def _checks(u: Floats, v: Floats, draw: Floats) -> Floats:
    pace = _pace(draw)
    return _tone(np.sin(u * pace) * np.sin(v * pace))


def _pace(draw: Floats) -> Floats:
    return _wide(6 + 2 * draw)[0]


def _tone(wave: Floats) -> Floats:
    """0 and 1 with soft transitions."""
    return (wave * 4 + np.float32(0.5)).clip(0, 1)


_FORMS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "circle": _circle,
    "ring": _ring,
    "crescent": _crescent,
    "triangle": _triangle,
    "square": _square,
    "star": _star,
    "cross": _cross,
    "heart": _heart,
    "striped": _blob,
    "checked": _blob,
}
_TEXTURES: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "striped": _stripes,
    "checked": _checks,
}
# Areas of the shapes in units of the squared radius, by which all objects get the same area.
_AREAS = {
    "circle": 2.27,
    "ring": 2.07,
    "crescent": 1.52,
    "triangle": 1.29,
    "square": 2.25,
    "star": 1.23,
    "cross": 1.80,
    "heart": 1.78,
    "striped": 2.05,
    "checked": 2.05,
}
CLASS_NAMES = tuple(_FORMS)
