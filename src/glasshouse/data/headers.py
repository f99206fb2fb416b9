"""The header of an image file: the size of the image, and what is unusual about the file."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from glasshouse.data.bit_depth import describe_narrow, is_deep, value_range
from glasshouse.data.decode import (
    Pixels,
    decode,
    decode_opened,
    no_warnings,
    orientation_of,
    read_file,
    stream_of,
)
from glasshouse.data.image_formats import format_of
from glasshouse.errors import GlasshouseWarning
from glasshouse.wording import first_of, pluralize

# EXIF orientations that swap height and width.
_TRANSPOSED = (5, 6, 7, 8)
# Modes of Pillow: more than 8 bits per value, and those that convert to RGB without loss.
_DEEP = ("I", "F")
_MORE_BITS = "more than 8 bits per channel, scaled to 8"
_FRAMES = "several frames or pages, of which only the first is used"
_CHANNELS = "channels besides those of its colours, which are left out"
_REDUCED = "a small version, as raw files of cameras have one first, in place of the image"
# Formats in which a second image is a preview, or the brightness, of the first.
_ONE_SCENE = ("JPEG", "HEIF")
# Files in a warning.
_SHOWN = 5
_PLAIN = ("RGB", "RGBA", "RGBX", "RGBa", "L", "LA", "La", "P", "PA", "1")
# Where a PNG says how many bits a value has.
_PNG_DEPTH = 24
# Tags of TIFF, and the bit of the first that says that the file holds a larger version.
_SUBFILE, _SAMPLES, _IS_REDUCED = 254, 277, 1
# Extensions that stand for one format; with any other, no format is unexpected.
_ENDINGS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff", ".dng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "HEIF": (".heic", ".heif", ".hif"),
}
_SAYING = {ending for endings in _ENDINGS.values() for ending in endings}


@dataclass(frozen=True)
class Header:
    """The size of the upright image in pixels, and remarks on the file.

    The same oddity always has the same wording, so that files can be grouped by it. narrow: the
    values of a file that uses few of those that its type has; empty for any other.
    """

    height: int
    width: int
    oddities: tuple[str, ...] = ()
    narrow: str = ""

    @property
    def losses(self) -> "FileLosses":
        """What a prediction of this file does not see."""
        parts = (_FRAMES, _CHANNELS, _REDUCED)
        return FileLosses(self.narrow, tuple(odd for odd in self.oddities if odd in parts))


@dataclass(frozen=True)
class FileLosses:
    """What a prediction of a file does not see.

    narrow: as in the header. parts: remarks on what is left out, such as frames.
    """

    narrow: str = ""
    parts: tuple[str, ...] = ()


def read_header(data: bytes, name: str) -> Header:
    """Read the header of a file that `decode` has accepted; damaged tags are ignored."""
    kind = format_of(data, name)
    with no_warnings(), Image.open(stream_of(data, kind), formats=[kind]) as image:
        # First: looking for an EXIF tag loads the pixels of a PNG, and with them this is gone.
        has_more_bits = is_deep(image)
        orientation = orientation_of(image)
        width, height = image.size
        # Pillow turns a TIFF itself, and gives the size that it has then.
        if orientation in _TRANSPOSED and kind != "TIFF":
            width, height = height, width
        oddities = _oddities(image, kind, Path(name), orientation)
        if not has_more_bits:
            return Header(height, width, tuple(oddities))
        found = value_range(image)
        narrow = found.describe() if found.is_narrow else ""
        return Header(height, width, (_MORE_BITS, *oddities), narrow)


def decode_file(path: Path) -> Pixels:
    """The pixels of a file that somebody asks a prediction for; raises BadImage.

    Warns of what the prediction does not see.
    """
    data, name = read_file(path), str(path)
    pixels = decode(data, name=name)
    warn_of_losses([(name, losses_of(data, name))])
    return pixels


def decode_with_range(image: Image.Image, *, name: str = "image") -> tuple[Pixels, str]:
    """The pixels of an image that Pillow has opened or made, and its values where they are few.

    The latter as in a header. Raises BadImage.
    """
    # First, as above.
    has_more_bits = is_deep(image)
    pixels = decode_opened(image, name=name)
    if not has_more_bits:
        return pixels, ""
    found = value_range(image)
    return pixels, found.describe() if found.is_narrow else ""


def losses_of(data: bytes, name: str) -> FileLosses:
    """What a prediction of a file that `decode` has accepted does not see.

    The pixels of a file with 8 bits per value are not decoded again.
    """
    kind = format_of(data, name)
    if _is_plain(data, kind):
        return FileLosses()
    with no_warnings(), Image.open(stream_of(data, kind), formats=[kind]) as image:
        has_more_bits = is_deep(image)
        parts = tuple(remark for remark, holds in _parts_left_out(image, kind) if holds)
        if not has_more_bits:
            return FileLosses(parts=parts)
        image.load()
        found = value_range(image)
    return FileLosses(found.describe() if found.is_narrow else "", parts)


def describe_losses(files: Sequence[tuple[str, FileLosses]]) -> list[str]:
    """What predictions of these files do not see, each kind with the first files by name."""
    narrow = [(name, losses.narrow) for name, losses in files if losses.narrow]
    lines = [describe_narrow(narrow)] if narrow else []
    for remark in dict.fromkeys(part for _, losses in files for part in losses.parts):
        names = [name for name, losses in files if remark in losses.parts]
        lines.append(
            f"{names[0]}: {remark}"
            if len(names) == 1
            else f"{pluralize(len(names), 'file')} with {remark}: {first_of(names, _SHOWN)}"
        )
    return lines


def warn_of_losses(files: Sequence[tuple[str, FileLosses]]) -> None:
    """Warn of what predictions of these files do not see; of nothing where they see it all."""
    for line in describe_losses(files):
        warnings.warn(line, GlasshouseWarning, stacklevel=2)


def _is_plain(data: bytes, kind: str) -> bool:
    """Whether a file has 8 bits a value, no frames and no further channels, by its bytes alone.

    Of most files this is known without opening them once more, which a service would wait for.
    """
    if kind != "PNG":
        return kind == "JPEG"
    return data[12:16] == b"IHDR" and data[_PNG_DEPTH] <= 8 and b"acTL" not in data


def _oddities(image: Image.Image, kind: str, path: Path, orientation: int) -> list[str]:
    ending = path.suffix.lower()
    remarks = {
        f"named {ending}, but a {kind}": ending in _SAYING - set(_ENDINGS[kind]),
        "rotated upright as its EXIF tag says": orientation != 1,
        f"{image.mode} colours, converted to RGB without their colour profile": not (
            image.mode.startswith(_DEEP) or image.mode in _PLAIN
        ),
        "transparency, placed on white": image.has_transparency_data,
        **dict(_parts_left_out(image, kind)),
    }
    return [remark for remark, holds in remarks.items() if holds]


def _parts_left_out(image: Image.Image, kind: str) -> list[tuple[str, bool]]:
    return [
        (_FRAMES, kind not in _ONE_SCENE and _has_more_frames(image)),
        (_CHANNELS, _tag(image, _SAMPLES) > len(image.getbands())),
        (_REDUCED, bool(_tag(image, _SUBFILE) & _IS_REDUCED)),
    ]


def _tag(image: Image.Image, number: int) -> int:
    """A number of a TIFF; 0 where it is missing or damaged, and in any other format."""
    try:
        return int(getattr(image, "tag_v2", {}).get(number, 0))
    # Tags are decoded when they are asked for.
    except Exception:
        return 0


def _has_more_frames(image: Image.Image) -> bool:
    # The search for a second frame may hit damaged bytes after an intact first one.
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:
        return False
