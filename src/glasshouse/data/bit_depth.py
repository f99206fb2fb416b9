"""Images of more than 8 bits per value: how they are scaled, and how much of their range they use.

The range is that of the type that a file declares: 12 bits where a TIFF says so, else 16. It is
never that of the values in one file, or the brightness of an image would depend on its content.
TIFF's MaxSampleValue and PNG's sBIT do not count: the first is the largest value of one file and
must not change how it looks (TIFF 6.0), and PNG scales its samples to 16 bits whatever sBIT says.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from glasshouse.errors import GlasshouseWarning
from glasshouse.wording import first_of, pluralize

# Tags of TIFF, and the value of the second that makes 0 white.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
# All values of a file that holds 14 bits or fewer in 16.
_NARROW = 0.25
_SHOWN = 5
_BYTES_ADVICE = (
    "Values 0 to 255 become an image of 8 bits with "
    "Image.fromarray(np.asarray(image).astype('uint8'))."
)


@dataclass(frozen=True)
class ValueRange:
    """The lowest and the highest value in a file, and the highest that its type has."""

    low: float
    high: float
    top: float

    @property
    def is_narrow(self) -> bool:
        """Whether a quarter of the range or less is used, by an image of more than one value."""
        return 0 < self.high - self.low <= _NARROW * self.top

    def describe(self) -> str:
        """The values in words, such as "values 0 to 4,095 of 65,535"."""
        numbers = (f"{n:,.0f}" if self.top > 1 else f"{n:.3g}" for n in (self.low, self.high))
        return f"values {' to '.join(numbers)} of {self.top:,.0f}"


def top_value(image: Image.Image) -> float:
    """The highest value that an image of one channel can have, by its declared type."""
    if image.mode == "F":
        return 1.0
    return float(2 ** min(_declared_bits(image) or 16, 16) - 1)


def is_white_zero(image: Image.Image) -> bool:
    """Whether a TIFF declares that 0 is white; Pillow inverts its values if they are of 8 bits."""
    return getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def is_deep(image: Image.Image) -> bool:
    """Whether a file has more than 8 bits per value; before its pixels are loaded."""
    if image.mode.startswith(("I", "F")):
        return True
    # Pillow keeps the upper 8 bits of each colour, and its mode does not show that there were more.
    if image.format == "PNG":
        return any(";16" in str(arguments) for *_, arguments in getattr(image, "tile", ()))
    return _declared_bits(image) > 8


def value_range(image: Image.Image) -> ValueRange:
    """The range of values of an image with more than 8 bits per value, whose pixels are loaded.

    Of colours, only the upper 8 bits are known.
    """
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        return ValueRange(float(values.min()), float(values.max()), top_value(image))
    low, high = _extremes_of_colours(image)
    # An image of a single value may have any of 256 in the bits that are gone.
    return ValueRange(256.0 * low, 256.0 * high + (255 if high > low else 0), 65535.0)


def explain_narrow(count: int) -> str:
    """What few values mean for this many files, and what to do about it."""
    subject = "It uses" if count == 1 else "They use"
    return (
        f"{subject} a quarter of the range of the type or less, as 12-bit images in 16-bit files "
        "do, so that at most a quarter of the 256 grey levels is left. Rescale the values of all "
        "images in the same way, in training and in use; those of 12 bits, multiply by 16."
    )


def describe_narrow(files: Sequence[tuple[str, str]], noun: str = "file") -> str:
    """The same, with the first files by name and values."""
    shown = first_of([f"{name} ({values})" for name, values in files], _SHOWN, "; ")
    title = f"{pluralize(len(files), noun)} with few grey levels"
    return f"{title}: {shown}. {explain_narrow(len(files))}"


def warn_of_narrow(files: Sequence[tuple[str, str]]) -> None:
    """Warn of files with few levels, by name and values; of none without any."""
    if files:
        warnings.warn(describe_narrow(files), GlasshouseWarning, stacklevel=2)


def warn_of_narrow_images(images: Sequence[tuple[str, str]]) -> None:
    """The same of images that Pillow has opened or made, whose type may not be meant."""
    if images:
        text = f"{describe_narrow(images, 'image')} {_BYTES_ADVICE}"
        warnings.warn(text, GlasshouseWarning, stacklevel=2)


def _extremes_of_colours(image: Image.Image) -> tuple[int, int]:
    extremes = image.getextrema()
    bands = extremes if isinstance(extremes[0], tuple) else (extremes,)
    # Transparency says nothing about the range of colours.
    colours = [band for name, band in zip(image.getbands(), bands, strict=True) if name != "A"]
    return min(int(low) for low, _ in colours), max(int(high) for _, high in colours)


def _declared_bits(image: Image.Image) -> int:
    """The bits per value that a TIFF declares; 0 for other formats and damaged tags."""
    try:
        bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 0)
        return max(int(each) for each in (bits if isinstance(bits, tuple) else (bits,)))
    except (TypeError, ValueError):
        return 0
