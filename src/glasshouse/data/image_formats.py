"""Which format a file is in, from its first bytes, and whether it is read."""

import importlib.util
from functools import cache

from glasshouse.errors import BadImage

# Enough to tell the format, including a list of compatible brands.
HEAD_BYTES = 256

# (offset, first bytes, Pillow's name). No other decoder is ever run: each one is more code that a
# malicious file could attack.
_FORMATS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (8, b"WEBP", "WEBP"),
    (0, b"BM", "BMP"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "TIFF"),
    (0, b"MM\x00+", "TIFF"),
    *((0, b"P%d" % number, "PPM") for number in range(1, 7)),
    (4, b"jP  \r\n\x87\n", "JPEG2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
)
# File formats that people try to load as images but that are not supported, by signature.
_REFUSED: tuple[tuple[int, bytes, str], ...] = (
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"SIMPLE  =", "a FITS file"),
    # Before cursors, which begin alike: zeros stand for no palette, not for the number of images.
    (0, b"\x00\x00\x02\x00\x00\x00\x00\x00", "a TGA image"),
    (0, b"\x00\x00\x0a\x00\x00\x00\x00\x00", "a TGA image"),
    (0, b"\x00\x00\x01\x00", "an icon or cursor"),
    (0, b"\x00\x00\x02\x00", "an icon or cursor"),
    (0, b"\x01\xda", "an SGI image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (4, b"JXL \r\n\x87\n", "a JPEG XL image"),
    (0, b"v/1\x01", "an OpenEXR image"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"<", "a web page, SVG or XML text"),
    (0, b"PK\x03\x04", "a ZIP archive"),
)
# ISO/IEC 23008-12: a file may name the general brands mif1 and msf1 first, and its codec after.
_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEIF = {b"mif1", b"msf1", b"mif2"}
_ELSEWHERE = "save it as PNG or JPEG"


def format_of(data: bytes, name: str) -> str:
    """Pillow's name of the format, from the first bytes; raises BadImage if not supported."""
    if not data:
        raise BadImage(name, "the file is empty")
    if data[4:8] == b"ftyp":
        return _format_by_brands(_brands(data), name)
    for offset, magic, kind in _FORMATS:
        if data.startswith(magic, offset):
            return kind
    for offset, magic, kind in _REFUSED:
        if data.startswith(magic, offset):
            raise BadImage(name, f"{kind}, which is not supported; {_ELSEWHERE}")
    raise BadImage(name, f"not an image in a supported format (starts with {data[:8]!r})")


def _brands(data: bytes) -> set[bytes]:
    """The major brand of an ISO media file and those that it is compatible with."""
    end = min(int.from_bytes(data[:4], "big"), len(data))
    return {data[8:12], *(data[place : place + 4] for place in range(16, end, 4))}


def _format_by_brands(brands: set[bytes], name: str) -> str:
    if brands & _AVIF:
        return "AVIF"
    if brands & _HEIC:
        if _reads_heic():
            return "HEIF"
        raise BadImage(
            name,
            "a HEIC image, as phones take them; to read it, pip install 'glasshouse[heic]', or "
            f"{_ELSEWHERE}",
        )
    kind = "a HEIF image with another codec than AV1 or HEVC" if brands & _HEIF else "a video"
    raise BadImage(name, f"{kind}, which is not supported; {_ELSEWHERE}")


@cache
def _reads_heic() -> bool:
    """Whether pillow-heif is installed, and then known to Pillow."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    importlib.import_module("pillow_heif").register_heif_opener()
    return True
