"""Headers of files: the size of the image, and what the owner may not expect."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glasshouse.data.decode import decode
from glasshouse.data.headers import (
    FileLosses,
    Header,
    decode_file,
    describe_losses,
    losses_of,
    read_header,
)
from glasshouse.data.image_checks import check
from glasshouse.data.sources import load_splits
from glasshouse.errors import GlasshouseWarning
from glasshouse.settings import DataSettings


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.new("RGB", (30, 20)), "JPEG", exif=exif)


def of_frames(kind: str, mode: str = "L") -> bytes:
    more = [Image.new(mode, (9, 9), 9)]
    return saved(Image.new(mode, (9, 9)), kind, save_all=True, append_images=more)


def test_a_plain_file_has_its_size_and_nothing_odd() -> None:
    data = saved(Image.new("RGB", (30, 20)), "JPEG")
    assert read_header(data, "a/b.JPG") == Header(20, 30)
    assert read_header(data, "no-ending").oddities == ()


@pytest.mark.parametrize(
    ("data", "name", "remark"),
    [
        (saved(Image.new("RGB", (9, 9)), "PNG"), "x.jpg", "named .jpg, but a PNG"),
        (saved(Image.new("RGBA", (9, 9)), "PNG"), "x.png", "transparency, placed on white"),
        (
            saved(Image.new("CMYK", (9, 9)), "JPEG"),
            "x.jpg",
            "CMYK colours, converted to RGB without their colour profile",
        ),
        (
            saved(Image.fromarray(np.zeros((9, 9), np.uint16)), "PNG"),
            "x.png",
            "more than 8 bits per channel, scaled to 8",
        ),
        (
            of_frames("GIF"),
            "x.gif",
            "several frames or pages, of which only the first is used",
        ),
        (turned(3), "x.jpg", "rotated upright as its EXIF tag says"),
        (
            saved(Image.new("RGBX", (9, 9)), "TIFF"),
            "x.tif",
            "channels besides those of its colours, which are left out",
        ),
        (
            saved(Image.new("RGB", (9, 9)), "TIFF", tiffinfo={254: 1}),
            "x.dng",
            "a small version, as raw files of cameras have one first, in place of the image",
        ),
    ],
)
def test_each_oddity_has_a_remark(data: bytes, name: str, remark: str) -> None:
    assert read_header(data, name).oddities == (remark,)


FRAMES = "several frames or pages, of which only the first is used"


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_what_a_prediction_does_not_see_is_known_without_the_pixels(kind: str) -> None:
    data = of_frames(kind, "RGB")
    assert losses_of(data, "x").parts == read_header(data, "x").losses.parts == (FRAMES,)
    plain = saved(Image.new("RGB", (9, 9)), kind)
    assert losses_of(plain, "x") == read_header(plain, "x").losses == FileLosses()


@pytest.mark.parametrize("kind", ["MPO", "HEIF"])
def test_the_second_image_of_a_photo_of_a_phone_is_no_frame(kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = of_frames(kind, "RGB")
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == 2
    assert losses_of(data, "x").parts == read_header(data, "x").losses.parts == ()


def test_a_file_of_pages_of_more_bits_says_both(tmp_path: Path) -> None:
    ramp = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8))
    (tmp_path / "x.tif").write_bytes(saved(ramp, "TIFF", save_all=True, append_images=[ramp]))
    with pytest.warns(GlasshouseWarning) as caught:
        decode_file(tmp_path / "x.tif")
    levels, frames = (str(each.message) for each in caught)
    assert levels.startswith(f"1 file with few grey levels: {tmp_path / 'x.tif'} (values 0 to 63")
    assert frames == f"{tmp_path / 'x.tif'}: {FRAMES}"


def test_many_files_are_described_by_the_first_of_them() -> None:
    files = [(f"{number}.gif", FileLosses(parts=(FRAMES,))) for number in range(7)]
    files.append(("plain.png", FileLosses()))
    first = "0.gif, 1.gif, 2.gif, 3.gif, 4.gif"
    assert describe_losses(files) == [f"7 files with {FRAMES}: {first} and 2 more"]
    assert describe_losses(files[-1:]) == []


def test_damaged_tags_of_a_tiff_are_ignored() -> None:
    data = saved(Image.new("RGB", (9, 9)), "TIFF", tiffinfo={254: 1})
    # Text in place of a long.
    number, text = (struct.pack("<HHII", 254, kind, 1, 1) for kind in (4, 2))
    assert data.count(number) == 1
    assert read_header(data.replace(number, text), "x.tif").oddities == ()


def test_the_size_is_that_of_the_upright_image() -> None:
    lying = read_header(turned(6), "x.jpg")
    assert (lying.height, lying.width) == (30, 20)


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_the_size_is_that_of_the_pixels(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.new("RGB", (30, 20)), kind, exif=exif)
    header = read_header(data, "a")
    assert (header.height, header.width) == decode(data).shape[:2]


def test_sizes_and_oddities_of_files_are_also_known_from_the_cache(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (20 + number, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{number}.png")
    Image.new("RGBA", (7, 5), (9, 9, 9, 9)).save(tmp_path / "set" / "cat" / "3.png")
    settings = DataSettings(image_size=32)
    fresh, cached = (load_splits(tmp_path / "set", settings) for _ in range(2))
    for splits in (fresh, cached):
        sizes = {
            image: tuple(size)
            for part in (splits.train, splits.validation, splits.test)
            for image, size in zip(part.ids.tolist(), np.array(part.sizes).tolist(), strict=True)
        }
        assert sizes["dog/4.png"] == (24, 40)
        assert sizes["cat/3.png"] == (5, 7)
        (odd,) = splits.odd_files
        assert (odd.id, odd.remark) == ("cat/3.png", "transparency, placed on white")
        tiny = [finding for finding in check(splits) if finding.kind == "tiny"]
        assert [finding.ids for finding in tiny] == [("cat/3.png",)]


@pytest.mark.realdata
def test_every_odd_file_is_read_with_a_remark_or_refused_with_a_reason(
    real_data: Path, tmp_path: Path
) -> None:
    import shutil

    for source, name in (("odd-images", "odd"), ("photos/imagenet", "photos")):
        shutil.copytree(real_data / source, tmp_path / "set" / name)
    splits = load_splits(tmp_path / "set", DataSettings(on_bad_file="skip"))
    reasons = {Path(bad.path).name: bad.reason for bad in splits.bad_files}
    assert reasons["truncated_jpeg.jpg"] == "the JPEG is truncated"
    assert "icon" in reasons["decompression_bomb.ico"]
    assert all(reasons.values())
    remarks = {(odd.id, odd.remark.split(" ")[0]) for odd in splits.odd_files}
    assert {("odd/pil_sample_cmyk.jpg", "CMYK"), ("odd/chi.gif", "several")} <= remarks
