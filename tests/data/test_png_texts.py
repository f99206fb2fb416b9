"""Texts and profiles of a PNG that are too large are left out, and nothing else."""

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from glasshouse.data import png_texts
from glasshouse.data.decode import decode
from glasshouse.data.headers import losses_of, read_header
from glasshouse.data.png_texts import without_large_texts
from tests.data.image_files import encoded, scene

LONG = "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1)


def texts(**kinds: str) -> PngImagePlugin.PngInfo:
    """Texts of these kinds of chunks, each after a short one of the same kind."""
    info = PngImagePlugin.PngInfo()
    for short, (kind, text) in ((s, item) for item in kinds.items() for s in (True, False)):
        value = "short" if short else text
        if kind == "iTXt":
            info.add_itxt(f"{short}", value, zip=True)
        else:
            info.add_text(f"{short}", value, zip=kind == "zTXt")
    return info


def texts_of(data: bytes) -> dict[str, str]:
    with PngImagePlugin.PngImageFile(io.BytesIO(data)) as image:
        return {name: str(text) for name, text in image.text.items()}


@pytest.mark.parametrize("kind", ["zTXt", "iTXt"])
def test_an_image_with_a_large_packed_text_is_read(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded("PNG", pnginfo=texts(**{kind: LONG}), exif=exif)
    with pytest.raises(ValueError, match="too large"), Image.open(io.BytesIO(data)):
        pass
    np.testing.assert_array_equal(decode(data), np.rot90(scene(), -1))
    header = read_header(data, "x.png")
    assert (header.height, header.width) == (32, 24)
    assert losses_of(data, "x.png").narrow == ""
    assert texts_of(without_large_texts(data)) == {"True": "short"}


def test_a_large_profile_is_left_out() -> None:
    profile = bytes(PngImagePlugin.MAX_TEXT_CHUNK + 1)
    np.testing.assert_array_equal(decode(encoded("PNG", icc_profile=profile)), scene())


def test_many_texts_are_read_as_far_as_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasshouse.data.png_texts._MOST_BYTES", 10)
    data = encoded("PNG", pnginfo=texts(tEXt="123456"))
    assert texts_of(without_large_texts(data)) == {"True": "short"}
    data = encoded("PNG", pnginfo=texts(tEXt="12345"))
    assert without_large_texts(data) is data


def test_no_more_is_unpacked_than_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasshouse.data.png_texts._MOST_BYTES", 6)
    unpacked: list[bytes] = []
    own = png_texts._unpacked_size

    def counted(value: bytes, is_compressed: bool) -> tuple[int, bool]:
        unpacked.append(value)
        return own(value, is_compressed)

    monkeypatch.setattr(png_texts, "_unpacked_size", counted)
    data = encoded("PNG", pnginfo=texts(zTXt="12345", tEXt="12345"))
    assert texts_of(without_large_texts(data)) == {"True": "short"}
    assert len(unpacked) == 2


def test_bytes_without_large_texts_stay_as_they_are() -> None:
    data = encoded("PNG", pnginfo=texts(tEXt=LONG, zTXt="short", iTXt="short"), icc_profile=b"x")
    assert without_large_texts(data) is data
    # Cut anywhere, and with a profile that cannot be unpacked.
    for end in range(0, len(data), 1 + len(data) // 50):
        assert without_large_texts(data[:end]) == data[:end]
    broken = data.replace(b"iCCP", b"zTXt")
    assert without_large_texts(broken[:99]) == broken[:99]
