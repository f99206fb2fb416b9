"""Maps in colours: the one place where the numbers of a map become pixels."""

from dataclasses import dataclass
from typing import Literal, get_args

import matplotlib
import numpy as np
from numpy.typing import NDArray

from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.nouns import Explanation, Floats

Palette = Literal["inferno", "viridis", "jet"]
PALETTES: tuple[Palette, ...] = get_args(Palette)
# Everything that is drawn has these colours unless others are asked for. Equal steps of a value are
# equally visible steps of colour; jet has bright bands that are not in the data.
DEFAULT: Palette = "inferno"
_SIGNED = "RdBu_r"

RGB = NDArray[np.uint8]


@dataclass(frozen=True)
class ColourScale:
    """Which value gets which colour: low the first and high the last of a colour map."""

    low: float
    high: float
    colours: str

    @property
    def is_signed(self) -> bool:
        """Whether there are two colours, of which zero has neither."""
        return self.colours == _SIGNED


@dataclass(frozen=True)
class ColouredMap:
    """A map as pixels ``(h, w, 3)``, and the scale of its colours."""

    pixels: RGB
    scale: ColourScale


def colour_scale(explanation: Explanation, values: Floats, palette: Palette) -> ColourScale:
    """The scale for one shown map ``(h, w)`` of an explanation.

    Maps with negative values and contrasts get two colours, red for the class and blue against
    it. A class activation map spans its whole range; at pixel resolution a few extreme pixels
    would make all others pale, so the scale ends at the 99.5th percentile.
    """
    is_signed = explanation.against is not None or bool((values < 0).any())
    strength = np.abs(values)
    largest = float(strength.max())
    limit = largest if explanation.is_cam else float(np.percentile(strength, 99.5)) or largest
    limit = limit or 1.0
    return ColourScale(-limit, limit, _SIGNED) if is_signed else ColourScale(0.0, limit, palette)


def transparent(values: Floats) -> NDArray[np.uint8]:
    """Pixels ``(h, w, 4)`` to lay over an image: only what speaks for the class is opaque."""
    strength = np.clip(values, 0, None)
    return overlay(strength, ColourScale(0.0, float(strength.max()) or 1.0, DEFAULT))


def coloured(values: Floats, scale: ColourScale) -> RGB:
    """Opaque pixels ``(h, w, 3)`` for a map ``(h, w)``."""
    return _as_bytes(_colours(values, scale))


def overlaid(image: RGB, values: Floats, scale: ColourScale) -> RGB:
    """A map over the grey image ``(h, w, 3)``: where it is zero, only the image is seen."""
    opacity = _opacity(values, scale)[..., None]
    return _as_bytes(opacity * _colours(values, scale) + (1 - opacity) * _grey(image))


def overlay(values: Floats, scale: ColourScale) -> NDArray[np.uint8]:
    """Pixels ``(h, w, 4)`` that make what `overlaid` draws when they lie over `in_grey`."""
    opacity = np.rint(255 * _opacity(values, scale)).astype(np.uint8)
    return np.dstack([coloured(values, scale), opacity])


def in_grey(image: RGB) -> RGB:
    """An image ``(h, w, 3)`` as it is seen below its maps, whose colours are then the only ones."""
    return _as_bytes(_grey(image).repeat(3, axis=2))


def colour_maps(explanation: Explanation, palette: Palette, most: int = 1) -> list[ColouredMap]:
    """The first maps of an explanation, each over its grey image."""
    drawn = []
    for index, values in enumerate(shown(explanation)[:most]):
        scale = colour_scale(explanation, values, palette)
        image = as_rgb(explanation.images[index])
        drawn.append(ColouredMap(overlaid(image, values, scale), scale))
    return drawn


def as_rgb(image: NDArray[np.uint8]) -> RGB:
    """An image ``(3, h, w)`` with its colours last."""
    return np.ascontiguousarray(np.moveaxis(image, 0, 2))


def _grey(image: RGB) -> NDArray[np.float64]:
    grey: NDArray[np.float64] = image.astype(np.float64).mean(2, keepdims=True) / 255
    return grey


def _opacity(values: Floats, scale: ColourScale) -> NDArray[np.float64]:
    strength = np.clip(np.abs(np.asarray(values, dtype=np.float64)) / scale.high, 0, 1)
    # Below one, so that the image is seen everywhere. The root keeps weak values visible.
    opacity: NDArray[np.float64] = 0.85 * np.sqrt(strength)
    return opacity


def _colours(values: Floats, scale: ColourScale) -> NDArray[np.float64]:
    span = scale.high - scale.low or 1.0
    shares = (np.asarray(values, dtype=np.float64) - scale.low) / span
    colours: NDArray[np.float64] = matplotlib.colormaps[scale.colours](np.clip(shares, 0, 1))
    return colours[..., :3]


def _as_bytes(shares: NDArray[np.float64]) -> RGB:
    result: RGB = np.rint(shares * 255).astype(np.uint8)
    return result
