"""Values of more than 8 bits are scaled by their declared type, and few of them are reported."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from glasshouse.data.bit_depth import (
    ValueRange,
    describe_narrow,
    is_deep,
    top_value,
    value_range,
    warn_of_narrow,
    warn_of_narrow_images,
)
from glasshouse.data.class_folders import list_folder
from glasshouse.data.decode import decode, decode_opened
from glasshouse.data.file_splits import load_unsplit
from glasshouse.data.headers import decode_file, decode_with_range, losses_of, read_header
from glasshouse.data.image_checks import check
from glasshouse.data.sources import load_splits
from glasshouse.errors import BadImage, GlasshouseWarning
from glasshouse.settings import DataSettings
from tests.data.image_files import encoded

DEEP = "more than 8 bits per channel, scaled to 8"
RAMP = np.linspace(0, 4095, 256).round().astype(np.uint16).reshape(16, 16)


def packed_tiff(values: np.ndarray, bits: int = 12) -> bytes:
    """A TIFF of one channel whose pairs of 12-bit values take three bytes, as microscopes write."""
    pairs = values.reshape(-1, 2).tolist()
    data = b"".join(
        bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs
    )  # fmt: skip
    height, width = values.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 134, 277: 1, 278: height}
    tags[279] = len(data)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return (head + entries + bytes(4)).ljust(134, b"\0") + data


def deep_png(values: np.ndarray) -> bytes:
    """A PNG of 16-bit values ``(h, w)``, ``(h, w, 2)``, ``(h, w, 3)`` or ``(h, w, 4)``."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    height, width, *channels = values.shape
    colours = {(): 0, (2,): 4, (3,): 2, (4,): 6}[tuple(channels)]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, colours, 0, 0, 0)
    whole = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def deep_colours(values: np.ndarray) -> np.ndarray:
    return np.stack([values, values, values], axis=2)


def test_twelve_bits_that_a_tiff_declares_are_scaled_by_twelve_bits() -> None:
    data = packed_tiff(RAMP)
    wanted = np.rint(RAMP * (255 / 4095)).astype(np.uint8)
    assert np.array_equal(decode(data)[:, :, 0], wanted)
    assert len(np.unique(decode(data))) == 256
    assert read_header(data, "x.tif").narrow == ""
    with Image.open(io.BytesIO(data)) as opened:
        assert np.array_equal(decode_opened(opened)[:, :, 0], wanted)


def test_brightness_never_depends_on_the_other_values_of_a_file() -> None:
    for make in (packed_tiff, deep_png):
        darker = decode(make(RAMP // 2 * 2 // 2))
        brighter = decode(make(RAMP))
        assert np.abs(brighter.astype(int) - 2 * darker.astype(int)).max() <= 2


@pytest.mark.parametrize(
    ("data", "narrow"),
    [
        (deep_png(RAMP), "values 0 to 4,095 of 65,535"),
        (deep_png(RAMP * 4), "values 0 to 16,380 of 65,535"),
        (deep_png(RAMP * 16), ""),
        (deep_png(RAMP + 30_000), "values 30,000 to 34,095 of 65,535"),
        (deep_png(deep_colours(RAMP)), "values 0 to 4,095 of 65,535"),
        (deep_png(deep_colours(RAMP * 16)), ""),
        (deep_png(np.dstack([RAMP, np.full_like(RAMP, 65535)])), "values 0 to 4,095 of 65,535"),
        (deep_png(np.dstack([deep_colours(RAMP), RAMP * 16])), "values 0 to 4,095 of 65,535"),
        (encoded("TIFF", Image.fromarray(RAMP)), "values 0 to 4,095 of 65,535"),
        (encoded("TIFF", Image.fromarray(np.float32(RAMP / 65535))), "values 0 to 0.0625 of 1"),
        (b"P5 16 16 4095\n" + RAMP.astype(">u2").tobytes(), ""),
        (packed_tiff(RAMP // 8), "values 0 to 511 of 4,095"),
    ],
    ids=[
        "12 in 16", "14 in 16", "16", "far from zero", "colours", "16-bit colours",
        "transparency", "colours and transparency", "tiff", "floats", "a declared maximum",
        "9 in 12",
    ],
)  # fmt: skip
def test_a_file_that_uses_few_of_the_values_of_its_type_says_which(
    data: bytes, narrow: str
) -> None:
    header = read_header(data, "no-ending")
    assert header.narrow == narrow
    assert losses_of(data, "x").narrow == narrow
    assert header.oddities[0] == DEEP


@pytest.mark.parametrize(
    "data",
    [
        deep_png(np.full((16, 16), 7, np.uint16)),
        deep_png(deep_colours(np.zeros((16, 16), np.uint16))),
        encoded("PNG"),
        encoded("TIFF"),
        encoded("BMP"),
    ],
    ids=["one value", "black", "png", "tiff", "bmp"],
)
def test_an_image_of_one_value_or_of_eight_bits_is_not_narrow(data: bytes) -> None:
    assert read_header(data, "no-ending").narrow == losses_of(data, "no-ending").narrow == ""


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_narrow_is_a_quarter_of_the_range_whatever_the_type(low: int, high: int) -> None:
    low, high = min(low, high), max(low, high)
    found = ValueRange(low, high, 65535.0)
    as_floats = ValueRange(low / 65536, high / 65536, 65535 / 65536)
    assert found.is_narrow == as_floats.is_narrow == (0 < high - low <= 16383)


def narrow_folder(root: Path, factor: int = 1) -> Path:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(6):
            values = np.roll(RAMP, 16 * number + (name == "cat")) * factor
            (root / name / f"{number}.png").write_bytes(deep_png(values))
    return root


def test_check_and_training_name_the_files_and_their_values_also_from_the_cache(
    tmp_path: Path,
) -> None:
    source = narrow_folder(tmp_path / "set")
    fresh, cached = (load_splits(source, DataSettings(image_size=16)) for _ in range(2))
    for splits in (fresh, cached):
        (finding,) = [each for each in check(splits) if each.kind == "narrow-range"]
        assert finding.level == "warning"
        assert finding.title == "12 files with few grey levels"
        assert len(finding.ids) == 12 and set(finding.reasons) == {"values 0 to 4,095 of 65,535"}
        (note,) = [note for note in splits.notes if "grey levels" in note]
        assert "cat/0.png (values 0 to 4,095 of 65,535)" in note or "and 7 more" in note
        assert "multiply by 16" in note
    whole = load_splits(narrow_folder(tmp_path / "whole", 16), DataSettings(image_size=16))
    assert whole.narrow_files == ()


def test_evaluating_and_predicting_warn(tmp_path: Path) -> None:
    source = narrow_folder(tmp_path / "set")
    with pytest.warns(GlasshouseWarning, match="12 files with few grey levels: cat/0.png "):
        load_unsplit(list_folder(source), DataSettings(image_size=16))
    with pytest.warns(GlasshouseWarning, match=r"cat.0.png \(values 0 to 4,095 of 65,535\)"):
        decode_file(source / "cat" / "0.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = narrow_folder(tmp_path / "whole", 16)
        assert decode_file(whole / "cat" / "0.png").max() == 255


@pytest.mark.parametrize(
    ("data", "narrow"),
    [
        (deep_png(RAMP), "values 0 to 4,095 of 65,535"),
        (deep_png(deep_colours(RAMP)), "values 0 to 4,095 of 65,535"),
        (deep_png(RAMP * 16), ""),
        (packed_tiff(RAMP // 8), "values 0 to 511 of 4,095"),
        (packed_tiff(RAMP), ""),
        (encoded("TIFF", Image.fromarray(np.float32(RAMP / 65535))), "values 0 to 0.0625 of 1"),
        (encoded("PNG"), ""),
        (encoded("JPEG"), ""),
    ],
    ids=["12 in 16", "colours", "16", "9 in 12", "12", "floats", "png", "jpeg"],
)
def test_an_image_that_pillow_has_opened_says_what_its_file_does(data: bytes, narrow: str) -> None:
    with Image.open(io.BytesIO(data)) as image:
        pixels, values = decode_with_range(image)
    assert np.array_equal(pixels, decode(data))
    assert values == narrow == read_header(data, "no-ending").narrow


@pytest.mark.parametrize("kind", ["int32", "uint16"])
def test_an_image_without_a_file_says_which_of_its_values_it_uses(kind: str) -> None:
    image = Image.fromarray((RAMP // 16).astype(kind))
    pixels, values = decode_with_range(image)
    assert pixels.max() == 1 and values == "values 0 to 255 of 65,535"
    assert decode_with_range(Image.fromarray((RAMP * 16).astype(kind)))[1] == ""
    assert decode_with_range(Image.fromarray((RAMP // 16).astype("uint8")))[1] == ""
    with pytest.raises(BadImage, match="mine: expected values from 0 to 65535"):
        decode_with_range(Image.fromarray(RAMP.astype(np.int32) * 17), name="mine")


def test_images_without_files_are_called_images_and_told_how_to_have_eight_bits() -> None:
    values = "values 0 to 255 of 65,535"
    with pytest.warns(GlasshouseWarning) as caught:
        warn_of_narrow_images([("row 1", values), ("row 2", values)])
    (text,) = [str(each.message) for each in caught]
    assert text.startswith(f"2 images with few grey levels: row 1 ({values}); row 2 ({values}).")
    assert text.endswith("Image.fromarray(np.asarray(image).astype('uint8')).")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_narrow_images([])


def test_of_many_files_the_first_are_named() -> None:
    text = describe_narrow([(f"{k}.png", "values 0 to 9 of 65,535") for k in range(7)])
    assert text.startswith("7 files with few grey levels: 0.png (values 0 to 9 of 65,535); 1.png")
    assert "; and 2 more. They use a quarter" in text
    one = describe_narrow([("a.png", "values 0 to 9 of 65,535")])
    assert one.count("It uses") == 1 and "; and" not in one


def opened(mode: str, bits: Any = None, **fields: Any) -> Any:
    """What is read of an image before its pixels: mode, and the bits that a TIFF declares."""
    tags = {} if bits is None else {"tag_v2": {258: bits}}
    return SimpleNamespace(mode=mode, **{"format": "TIFF", **tags, **fields})


def test_the_highest_value_is_that_of_the_declared_bits() -> None:
    declared = {None: 65535, 12: 4095, (12,): 4095, 14: 16383, 16: 65535, 32: 65535, 1: 1}
    assert {bits: top_value(opened("I;16", bits)) for bits in declared} == declared
    assert top_value(opened("F", 32)) == 1


def test_more_than_eight_bits_are_told_by_the_mode_the_tags_or_the_decoder() -> None:
    assert is_deep(opened("I;16")) and is_deep(opened("I")) and is_deep(opened("F"))
    bits = {None: False, 1: False, 8: False, (8, 8, 8): False, 9: True, (16, 16, 16): True}
    assert {each: is_deep(opened("RGB", each)) for each in bits} == bits
    for raw, deep in (("RGB;16B", True), ("RGB", False)):
        tile = [("zip", (0, 0, 2, 2), 41, raw)]
        assert is_deep(opened("RGB", format="PNG", tile=tile)) == deep
    assert not is_deep(opened("RGB", 16, format="PNG"))


def test_of_colours_the_range_is_that_of_their_upper_bits() -> None:
    image = Image.new("RGBA", (2, 1), (3, 5, 4, 255))
    assert value_range(image) == ValueRange(768, 256 * 5 + 255, 65535)
    assert value_range(Image.new("RGB", (2, 1), (7, 7, 7))) == ValueRange(1792, 1792, 65535)
    grey = Image.fromarray(np.array([[2, 9]], np.uint8))
    assert value_range(grey) == ValueRange(512, 256 * 9 + 255, 65535)


def test_a_quarter_of_the_range_is_narrow_and_a_single_value_is_not() -> None:
    found = {high: ValueRange(4, high, 64).is_narrow for high in (4, 5, 20, 21)}
    assert found == {4: False, 5: True, 20: True, 21: False}
    assert ValueRange(0.25, 1.25, 2).describe() == "values 0 to 1 of 2"
    assert ValueRange(0.25, 0.5, 1).describe() == "values 0.25 to 0.5 of 1"


def test_the_warning_names_the_line_that_asked_for_it() -> None:
    with pytest.warns(GlasshouseWarning) as caught:
        warn_of_narrow([("a.png", "values 0 to 9 of 65,535")])
    assert [each.filename for each in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_narrow([])


@pytest.mark.parametrize(("kind", "top"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_zero_is_white_where_a_tiff_says_so(kind: str, top: int) -> None:
    data = encoded("TIFF", Image.fromarray(np.array([[0, top]], dtype=kind)))
    assert decode(data)[0, :, 0].tolist() == [0, 255]
    # The tag of how values are meant: a short, once, 1 for black and 0 for white.
    black, white = (struct.pack("<HHIHH", 262, 3, 1, value, 0) for value in (1, 0))
    assert data.count(black) == 1
    inverted = data.replace(black, white)
    assert decode(inverted)[0, :, 0].tolist() == [255, 0]
    assert decode_opened(Image.open(io.BytesIO(inverted)))[0, :, 0].tolist() == [255, 0]


def test_a_deep_value_that_stands_for_transparency_is_white() -> None:
    image = Image.fromarray(np.array([[0, 257, 514]], dtype=np.uint16))
    assert decode(encoded("PNG", image))[0, :, 0].tolist() == [0, 1, 2]
    assert decode(encoded("PNG", image, transparency=257))[0, :, 0].tolist() == [0, 255, 2]
