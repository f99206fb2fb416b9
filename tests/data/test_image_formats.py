"""Formats are told by their content: brands of ISO media files above all."""

import importlib.util
import io

import numpy as np
import pytest
from PIL import Image

from glasshouse.data import image_formats
from glasshouse.data.decode import decode
from glasshouse.data.image_formats import format_of
from glasshouse.errors import BadImage


def media_file(major: bytes, *compatible: bytes) -> bytes:
    """The first box of an ISO media file, and some bytes of the next."""
    box = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return (len(box) + 4).to_bytes(4, "big") + box + b"\x00\x00\x00\x20metaavif"


@pytest.mark.parametrize(
    "brands", [(b"avif",), (b"avis", b"msf1"), (b"mif1", b"miaf", b"avif"), (b"msf1", b"avis")]
)
def test_avif_is_known_by_any_of_its_brands(brands: tuple[bytes, ...]) -> None:
    assert format_of(media_file(*brands), "x") == "AVIF"


def test_an_avif_file_whose_first_brand_is_general_is_read() -> None:
    buffer = io.BytesIO()
    pixels = np.full((16, 16, 3), (200, 30, 60), np.uint8)
    Image.fromarray(pixels).save(buffer, "AVIF", quality=100)
    data = buffer.getvalue()
    assert data[8:12] == b"avif"
    general = data[:8] + b"mif1" + data[12:]
    assert np.abs(decode(general).astype(int) - pixels).max() <= 4


@pytest.mark.parametrize("brands", [(b"heic",), (b"heix", b"mif1"), (b"mif1", b"heic"), (b"hevc",)])
def test_heic_names_the_extra_that_reads_it(
    brands: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_formats, "_reads_heic", lambda: False)
    with pytest.raises(BadImage, match=r"HEIC.*pip install 'glasshouse\[heic\]'.*PNG or JPEG"):
        format_of(media_file(*brands), "x")


@pytest.mark.parametrize(
    ("brands", "kind"),
    [
        ((b"isom", b"mp41"), "a video"),
        ((b"qt  ",), "a video"),
        ((b"mif1", b"jpeg"), "a HEIF image with another codec"),
    ],
)
def test_other_media_files_are_called_what_they_are(brands: tuple[bytes, ...], kind: str) -> None:
    with pytest.raises(BadImage, match=f"{kind}.*not supported"):
        format_of(media_file(*brands), "x")


def test_brands_end_with_their_box() -> None:
    with pytest.raises(BadImage, match="a video"):
        format_of(media_file(b"isom")[:-4] + b"avif", "x")


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is None, reason="needs the extra heic")
def test_a_heic_photo_is_decoded_where_its_library_is_installed() -> None:
    heif = importlib.import_module("pillow_heif")
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32] = (200, 40, 40)
    pixels[32:] = (30, 60, 220)
    buffer = io.BytesIO()
    heif.from_pillow(Image.fromarray(pixels)).save(buffer, quality=100)
    read = decode(buffer.getvalue())
    assert read.shape == (64, 96, 3)
    assert np.abs(read.astype(int) - pixels)[8:24].max() <= 12
    assert np.abs(read.astype(int) - pixels)[40:56].max() <= 12


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"8BPS\x00\x01", "a Photoshop document"),
        (b"%PDF-1.7", "a PDF document"),
        (b"%!PS-Adobe-3.0", "a PostScript document"),
        (b"SIMPLE  =                    T", "a FITS file"),
        (b"\x00\x00\x01\x00\x01\x00", "an icon or cursor"),
        (b"\x00\x00\x02\x00\x01\x00", "an icon or cursor"),
        (b"\x00\x00\x02\x00\x00\x00\x00\x00\x00", "a TGA image"),
        (b"\x00\x00\x0a\x00\x00\x00\x00\x00\x00", "a TGA image"),
        (b"\xff\x0a\xfa\x1f", "a JPEG XL image"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"v/1\x01\x02\x00", "an OpenEXR image"),
        (b"DDS |\x00", "a DDS texture"),
        (b"\x01\xda\x01\x01", "an SGI image"),
        (b"<!DOCTYPE html>", "a web page, SVG or XML text"),
        (b"<svg xmlns=", "a web page, SVG or XML text"),
        (b"PK\x03\x04\x14\x00", "a ZIP archive"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(head: bytes, kind: str) -> None:
    with pytest.raises(BadImage, match=f"{kind}, which is not supported; save it as PNG or JPEG"):
        format_of(head, "x")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF87a", "GIF"),
        (b"GIF89a", "GIF"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "WEBP"),
        (b"BM\x36\x00", "BMP"),
        (b"II*\x00", "TIFF"),
        (b"MM\x00*", "TIFF"),
        (b"II+\x00", "TIFF"),
        (b"MM\x00+", "TIFF"),
        (b"P1\n", "PPM"),
        (b"P6\n", "PPM"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
        (b"\xff\x4f\xff\x51", "JPEG2000"),
    ],
)
def test_formats_are_told_by_their_first_bytes(head: bytes, kind: str) -> None:
    assert format_of(head, "x") == kind
