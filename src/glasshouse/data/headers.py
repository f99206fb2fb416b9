"""What an image file says of itself before its pixels: its size, and what is odd about it."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from glasshouse.data.decode import format_of, orientation_of

# Orientations of EXIF that exchange rows and columns.
_LYING = (5, 6, 7, 8)
_DEEP = ("I", "F")
_PLAIN = ("RGB", "RGBA", "RGBX", "RGBa", "L", "LA", "La", "P", "PA", "1")
# Endings that say what a file is; others say nothing, so that nothing contradicts them.
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
}
_SAYING = {ending for endings in _ENDINGS.values() for ending in endings}


@dataclass(frozen=True)
class Header:
    """The size of an upright image in its file, in pixels, and remarks on the file.

    Equal oddities have equal words, so that files can be counted by them.
    """

    height: int
    width: int
    oddities: tuple[str, ...] = ()


def read_header(data: bytes, name: str) -> Header:
    """The header of a file that `decode` has read; a damaged tag is left out, not raised."""
    kind = format_of(data, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            orientation = orientation_of(image)
            width, height = image.size
            if orientation in _LYING:
                width, height = height, width
            return Header(height, width, tuple(_oddities(image, kind, Path(name), orientation)))


def _oddities(image: Image.Image, kind: str, path: Path, orientation: int) -> list[str]:
    ending = path.suffix.lower()
    remarks = {
        f"named {ending}, but a {kind}": ending in _SAYING - set(_ENDINGS[kind]),
        "turned upright, as its EXIF tag says": orientation != 1,
        "several frames or pages, of which the first is used": _has_more_frames(image),
        "more than 8 bits a channel, scaled to 8": image.mode.startswith(_DEEP),
        f"{image.mode} colours, turned to RGB without their profile": not (
            image.mode.startswith(_DEEP) or image.mode in _PLAIN
        ),
        "transparency, laid on white": image.has_transparency_data,
    }
    return [remark for remark, holds in remarks.items() if holds]


def _has_more_frames(image: Image.Image) -> bool:
    # Looking for the second frame may read damaged bytes behind a sound first one.
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:
        return False
