"""The only decoder, so that training, prediction and serving see the same pixels of a file.

The content of a file decides its format, never its name. Whatever Pillow raises becomes a BadImage
with a plain reason. Colour profiles are ignored, as is common in training: few files have
one.
"""

import contextlib
import ctypes
import io
import logging
import os
import threading
import warnings
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from typing import IO, BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, _imaging

from glasshouse.data.bit_depth import is_white_zero, top_value
from glasshouse.data.image_formats import HEAD_BYTES, format_of
from glasshouse.data.png_texts import without_large_texts
from glasshouse.errors import BadImage

Pixels = NDArray[np.uint8]


class ReadableFile(Protocol):
    """What is opened as a path is: a file, or a part of one."""

    def is_file(self) -> bool:
        """Whether it is there."""

    def open(self, mode: Literal["rb"]) -> IO[bytes]:
        """Its bytes."""


Source = str | PathLike[str] | bytes | BinaryIO

# Without a handler, Python would print what Pillow logs about damaged files between our own output.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def _silence_libtiff() -> None:
    """Keep libtiff from printing its own remarks on damaged files to standard error.

    They go to file descriptor 2, past Python: redirecting that would swallow the output of other
    threads as well. Pillow answers with the same error either way. Where libtiff is linked
    statically it cannot be reached, and may print.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        # The symbols of the libraries that this extension module is linked with are found, too.
        library = ctypes.CDLL(_imaging.__file__)
        for setter in (library.TIFFSetWarningHandler, library.TIFFSetErrorHandler):
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)


_silence_libtiff()

# Part of every cache key: to be changed with anything that changes a pixel.
DECODER_VERSION = "4"
MAX_PIXELS = 100_000_000
MAX_FILE_BYTES = 512 << 20
_LARGE_FILE = f"larger than {MAX_FILE_BYTES >> 20} MiB"
# Larger images are decoded at half their size, so that a photo of a modern phone needs less memory.
_ROOMY_PIXELS = 24_000_000
# Transparent pixels become white, as on a web page.
_BACKGROUND = (255, 255, 255)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112


def decode(source: Source, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode the first frame of an image as upright 8-bit RGB ``(h, w, 3)``.

    source: a path, the bytes of a file, or a binary file object, which is read to its end. name:
    what errors call the image; by default its path.

    Reads JPEG, PNG, GIF, WebP, AVIF, BMP, TIFF, PPM and JPEG 2000, and HEIC with the extra `heic`,
    of up to max_pixels, 100 megapixels at most; an image above 24 megapixels is returned at a half
    or a quarter of its height and width. 12-bit, 16-bit and floating-point values are scaled by the
    range of the type that the file declares; transparent pixels are placed on white. Raises
    BadImage, also for a file that does not exist.
    """
    name = _name_of(source) if name is None else name
    data = _read_source(source, name)
    with no_warnings():
        return _decode(data, name, min(max_pixels, MAX_PIXELS))


class _NoWarnings:
    """Ignores all warnings of this process while any thread is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._kept = warnings.catch_warnings()

    def __enter__(self) -> None:
        # Warning filters are one list per process: the first thread replaces it, and the last one
        # brings it back. A lock around all that they do would have them decode one by one.
        with self._lock:
            if not self._inside:
                self._kept = warnings.catch_warnings()
                self._kept.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._kept.__exit__(None, None, None)


_NO_WARNINGS = _NoWarnings()


def no_warnings() -> AbstractContextManager[None]:
    """Ignore what Pillow warns of; what matters is an error or a remark on the file."""
    return _NO_WARNINGS


def decode_opened(image: Image.Image, *, name: str = "image") -> Pixels:
    """An image that Pillow has opened or made, with the pixels that `decode` reads from its file.

    Its EXIF orientation is applied, as in a file. A JPEG above 24 megapixels may differ by
    rounding, since libjpeg does not halve it here. Raises BadImage.
    """
    with no_warnings():
        try:
            _check_size(image, name, MAX_PIXELS)
            # A copy reads the pixels of a file that is still closed, and leaves the image its size.
            upright = _upright(image, _shrink(_to_rgb(image.copy(), image, name)))
            return np.array(upright, dtype=np.uint8)
        except BadImage:
            raise
        except Exception as error:
            # Pillow only asserts that an image it has not yet read still has its file.
            is_closed = getattr(image, "fp", image) is None
            reason = "its file is already closed" if is_closed else _reason(error, "image")
            raise BadImage(name, reason) from error


def image_size(path: "Path | ReadableFile") -> tuple[int, int] | None:
    """Height and width from the header of a file; None if it cannot be read as an image.

    Fast, since no pixel is decoded. The rotation in an EXIF tag is ignored.
    """
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            kind = format_of(file.read(HEAD_BYTES), str(path))
            file.seek(0)
            with no_warnings(), Image.open(file, formats=[kind]) as image:
                return image.height, image.width
    # As in _decode: Pillow's readers raise nearly anything on damaged input.
    except Exception:
        return None


def read_file(path: Path) -> bytes:
    """The bytes of an ordinary file of at most 512 MiB; raises BadImage."""
    try:
        # Checked before it is opened: reading a pipe or a device would wait forever.
        if not path.is_file():
            raise BadImage(path, "not a file" if path.exists() else "the file does not exist")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadImage(path, _LARGE_FILE)
        return path.read_bytes()
    except OSError as error:
        raise BadImage(path, f"cannot be read: {error.strerror}") from error


def _name_of(source: Source) -> str:
    """What errors call a source: its path where it has one."""
    known = source if isinstance(source, str | PathLike) else getattr(source, "name", None)
    # The name of a file object may be a file descriptor, which says nothing to a reader.
    return os.fspath(known) if isinstance(known, str | PathLike) else "image"


def _read_source(source: Source, name: str) -> bytes:
    """The bytes of a source; raises BadImage, and TypeError for what is no source."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | PathLike):
        return read_file(Path(source))
    if not hasattr(source, "read"):
        raise TypeError(
            "decode: expected a path, bytes or a binary file object, received "
            f"{type(source).__name__}"
        )
    try:
        # One byte more than is accepted shows that there are more, however many there are.
        data = source.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadImage(name, f"cannot be read: {error.strerror}") from error
    if not isinstance(data, bytes):
        raise TypeError(
            f"decode: expected a file object of bytes, received one of {type(data).__name__}; "
            "open the file in binary mode ('rb')"
        )
    if len(data) > MAX_FILE_BYTES:
        raise BadImage(name, _LARGE_FILE)
    return data


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation from 1 (upright) to 8; also 1 if the tag is missing or damaged."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        return orientation if orientation in _TURNS else 1
    except Exception:
        return 1


def stream_of(data: bytes, kind: str) -> io.BytesIO:
    """The bytes of a file in a format as Pillow is given them."""
    return io.BytesIO(without_large_texts(data) if kind == "PNG" else data)


def _decode(data: bytes, name: str, max_pixels: int) -> Pixels:
    kind = format_of(data, name)
    try:
        with Image.open(stream_of(data, kind), formats=[kind]) as image:
            _check_size(image, name, max_pixels)
            _draft(image)
            image.load()
            upright = _upright(image, _shrink(_to_rgb(image, image, name)))
            # A copy, since np.asarray would return a read-only array.
            return np.array(upright, dtype=np.uint8)
    except BadImage:
        raise
    # Pillow's readers raise nearly anything on damaged input, down to IndexError.
    except Exception as error:
        raise BadImage(name, _reason(error, kind)) from error


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        size = f"{image.width} x {image.height} pixels"
        raise BadImage(name, _too_large(size, max_pixels))


def _too_large(size: str, max_pixels: int = MAX_PIXELS) -> str:
    return f"{size} is above the limit of {max_pixels / 10**6:g} megapixels"


def _factor(width: int, height: int) -> int:
    factor = 1
    while width * height > _ROOMY_PIXELS * factor**2:
        factor *= 2
    return factor


def _draft(image: Image.Image) -> None:
    """Have a large JPEG decoded at half its size or less, which takes a quarter of the memory.

    libjpeg then averages blocks of pixels exactly, as `_shrink` does for other formats.
    """
    factor = _factor(image.width, image.height)
    # Does nothing for formats other than JPEG, and only works before the image is loaded.
    if factor > 1:
        image.draft(None, (image.width // factor, image.height // factor))


def _shrink(image: Image.Image) -> Image.Image:
    factor = _factor(image.width, image.height)
    return image.reduce(factor) if factor > 1 else image


def _to_rgb(image: Image.Image, opened: Image.Image, name: str) -> Image.Image:
    """opened: the image itself, or that which it is a copy of, which knows no more of its file."""
    # Pillow's own conversion of these modes clips at 255 instead of scaling.
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        grey = _to_eight_bits(values, top_value(opened), name)
        grey = 255 - grey if is_white_zero(opened) else grey
        transparent = opened.info.get("transparency")
        # As for fewer bits, a value of a PNG that stands for transparency becomes the background.
        return Image.fromarray(np.where(values == transparent, np.uint8(255), grey)).convert("RGB")
    # The modes at the end have an alpha channel, too.
    if not (image.has_transparency_data or image.mode in ("PA", "La", "RGBa")):
        return image.convert("RGB")
    layer = image.convert("RGBA")
    background = Image.new("RGBA", layer.size, (*_BACKGROUND, 255))
    background.alpha_composite(layer)
    return background.convert("RGB")


def _to_eight_bits(values: NDArray[np.generic], top: float, name: str) -> Pixels:
    """One channel of integers from 0 to top, or of floats in 0..1, scaled to 0..255."""
    numbers = values.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if not np.isfinite(numbers).all():
        raise BadImage(
            name,
            f"some values are infinite or not numbers; expected values from 0 to {top:g}: replace "
            "them, and save the image again",
        )
    if low < 0 or high > top:
        raise BadImage(
            name,
            f"expected values from 0 to {top:g}, received {low:g} to {high:g}; rescale the image",
        )
    return np.rint(numbers * (255.0 / top)).astype(np.uint8)


def _upright(original: Image.Image, image: Image.Image) -> Image.Image:
    """Rotate or mirror the image as its EXIF or XMP tag says."""
    turn = _TURNS.get(orientation_of(original))
    return image if turn is None else image.transpose(turn)


def _reason(error: Exception, kind: str) -> str:
    text = str(error).strip().rstrip(".")
    if isinstance(error, Image.DecompressionBombError):
        return _too_large("its size")
    if isinstance(error, MemoryError):
        return f"damaged {kind}: it asks for more memory than is available"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return f"the {kind} is truncated"
    if isinstance(error, UnidentifiedImageError):
        return f"the header of the {kind} is damaged or not supported"
    return f"damaged {kind}: {text or type(error).__name__}"
