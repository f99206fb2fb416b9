import errno
import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from glasshouse.data import decode as module
from glasshouse.data.decode import decode
from glasshouse.errors import BadImage
from tests.data.image_files import all_formats, encoded, scene


@pytest.mark.parametrize("name", all_formats())
def test_every_format_gives_the_same_scene(name: str) -> None:
    pixels = decode(all_formats()[name])
    assert pixels.shape == (24, 32, 3)
    assert pixels.dtype == np.uint8
    expected = scene().astype(float)
    if name == "grey.jpg":
        expected = np.repeat(expected @ [[0.299], [0.587], [0.114]], 3, axis=2)
    tolerance = 20 if name in ("palette.png", "still.gif") else 6
    assert np.abs(pixels - expected).mean() < tolerance


def test_the_content_decides_the_format_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded("PNG"))
    assert np.array_equal(decode(path), scene())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(orientation: int) -> None:
    upright = scene()
    # What a camera stores, so that the rotation in the tag gives the upright image.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright.transpose(1, 0, 2), 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded("PNG", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(decode(data), upright)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    values = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    pixels = decode(encoded("PNG", Image.fromarray(values)))
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 255]


def test_floats_are_taken_as_zero_to_one_or_refused() -> None:
    values = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    assert decode(encoded("TIFF", Image.fromarray(values)))[0, :, 0].tolist() == [0, 128, 255]
    with pytest.raises(BadImage, match="expected values from 0 to 1, received 0 to 50"):
        decode(encoded("TIFF", Image.fromarray(values * 50)))
    for wrong in ("nan", "inf", "-inf"):
        with pytest.raises(BadImage, match="some values are infinite or not numbers"):
            decode(encoded("TIFF", Image.fromarray(np.where(values > 0, np.float32(wrong), 0))))


def test_transparent_pixels_become_white() -> None:
    layer = np.zeros((2, 3, 4), dtype=np.uint8)
    layer[0, 0] = (200, 100, 0, 255)
    layer[0, 1] = (0, 0, 0, 128)
    pixels = decode(encoded("PNG", Image.fromarray(layer)))
    assert pixels[0, 0].tolist() == [200, 100, 0]
    assert pixels[0, 1].tolist() == [127, 127, 127]
    assert (pixels[1] == 255).all()


def test_a_transparent_palette_colour_becomes_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    pixels = decode(encoded("PNG", image, transparency=0))
    assert pixels[0].tolist() == [[255, 255, 255], [40, 50, 60]]


def test_only_the_first_frame_of_an_animation_is_read() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded("GIF", frames[0], save_all=True, append_images=frames[1:])
    assert decode(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello, world", "not an image in a supported format"),
        (b"8BPS\x00\x01", "a Photoshop document, which is not supported; save it as PNG or JPEG"),
        (b"<svg xmlns=''/>", "SVG"),
        (b"%PDF-1.7", "a PDF document"),
        (b"%!PS-Adobe", "a PostScript document"),
        (b"\x00\x00\x00\x18ftypqt  ", "a video"),
        (encoded("PNG")[:20], "PNG"),
        (encoded("PNG")[:100], "the PNG is truncated"),
        (encoded("JPEG")[:-200], "the JPEG is truncated"),
    ],
)
def test_what_is_no_image_is_refused_with_a_plain_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decode(data, name="cat.jpg")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"nothing\.png: the file does not exist"):
        decode(tmp_path / "nothing.png")
    with pytest.raises(BadImage, match="not a file"):
        decode(tmp_path)


def test_a_path_a_string_bytes_and_a_file_object_give_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded("PNG"))
    with path.open("rb") as file:
        found = [decode(source) for source in (path, str(path), path.read_bytes(), file)]
    found.append(decode(io.BytesIO(path.read_bytes())))
    for pixels in found:
        assert pixels.shape == (24, 32, 3)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, scene())


def test_errors_name_the_source_however_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"hello, world")
    with path.open("rb") as file:
        for source in (path, str(path), file):
            with pytest.raises(BadImage, match=r"photo\.jpg: not an image in a supported format"):
                decode(source)
    with pytest.raises(BadImage, match=r"^image: the file is empty"):
        decode(io.BytesIO())
    with pytest.raises(BadImage, match=r"nothing\.png: the file does not exist"):
        decode("nothing.png")
    with os.fdopen(os.open(path, os.O_RDONLY), "rb") as numbered:
        assert isinstance(numbered.name, int)
        with pytest.raises(BadImage, match=r"^image: not an image"):
            decode(numbered)


def test_what_is_no_source_is_a_type_error_that_says_what_is() -> None:
    with pytest.raises(TypeError, match=r"a path, bytes or a binary file object.* ndarray"):
        decode(np.zeros((2, 2, 3), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="open the file in binary mode"):
        decode(io.StringIO("hello"))  # type: ignore[arg-type]


def test_a_file_object_is_not_read_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 100)
    stream = io.BytesIO(encoded("PNG") + bytes(10_000))
    with pytest.raises(BadImage, match="larger than 512 MiB"):
        decode(stream, name="upload.png")
    assert stream.tell() == 101


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadImage, match="not a file"):
        decode(tmp_path / "pipe.png")


@pytest.mark.parametrize("side", [11_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    data += struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 0) + b"IDAT\x35\xaf\x06\x1e"
    with pytest.raises(BadImage, match="above the limit of 100 megapixels"):
        decode(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_very_large_image_is_returned_at_a_reduced_size(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROOMY_PIXELS", 24 * 32 // 4)
    pixels = decode(encoded(kind))
    assert pixels.shape == (12, 16, 3)
    means = scene().reshape(12, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(pixels - means).mean() < 4


def test_warnings_of_the_library_do_not_leak() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    data = encoded("PNG", image, transparency=b"\x00\x80")
    before = warnings.filters[:]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode(data)
    assert not caught
    assert warnings.filters[:] == before


def test_what_the_library_logs_of_a_damaged_file_is_not_printed() -> None:
    one_sample = (277).to_bytes(2, "little") + (3).to_bytes(2, "little") + bytes((1, 0, 0, 0, 3))
    many_samples = one_sample[:-1] + b"\xff\xff"
    damaged = encoded("TIFF").replace(one_sample + b"\0", many_samples)
    program = (
        "import sys\nfrom glasshouse.data.decode import decode\n"
        "try:\n    decode(sys.stdin.buffer.read())\n"
        "except Exception as error:\n    print(type(error).__name__)"
    )
    ended = subprocess.run([sys.executable, "-c", program], input=damaged, capture_output=True)
    assert (ended.stdout.strip(), ended.stderr) == (b"BadImage", b"")


@pytest.mark.parametrize("compression", ["packbits", "group4", "tiff_lzw", "jpeg"])
def test_what_libtiff_prints_of_a_damaged_file_is_not_shown(compression: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    image = Image.fromarray(noise).convert("1" if compression == "group4" else "RGB")
    file = io.BytesIO()
    image.save(file, "TIFF", compression=compression)
    # The file ends, or its pixels are overwritten, where the strips of pixels are.
    whole = file.getvalue()
    damaged = [whole[:9] + b"\xff\x81" * 20 + whole[49:], whole[:60] + bytes(100) + whole[160:]]
    program = (
        "import sys\nfrom glasshouse.data.decode import decode\n"
        "for data in sys.stdin.read().split():\n"
        "    try:\n        print(decode(bytes.fromhex(data)).shape)\n"
        "    except Exception as error:\n        print(type(error).__name__)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        input=" ".join(data.hex() for data in damaged).encode(),
        capture_output=True,
    )
    assert ended.stdout.count(b"\n") == len(damaged)
    assert ended.stderr == b""


def test_threads_decode_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=30)
    one = module._decode

    def waiting(*arguments: Any) -> Any:
        both.wait()
        return one(*arguments)

    monkeypatch.setattr(module, "_decode", waiting)
    data, found = encoded("PNG"), []
    threads = [threading.Thread(target=lambda: found.append(decode(data))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2


def test_warnings_are_ignored_until_the_last_thread_has_decoded() -> None:
    before = warnings.filters[:]
    with module.no_warnings():
        with module.no_warnings():
            pass
        assert warnings.filters[0][0] == "ignore" and warnings.filters[:] != before
    assert warnings.filters[:] == before


def test_threads_leave_the_warning_filters_as_they_were() -> None:
    data, before = encoded("PNG"), warnings.filters[:]
    threads = [threading.Thread(target=decode, args=(data,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters[:] == before


def test_bytes_are_decoded_as_their_file_is(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded("JPEG"))
    assert np.array_equal(decode(path.read_bytes()), decode(path))


def test_a_few_hundred_damaged_files_are_read_or_named() -> None:
    random = np.random.default_rng(0)
    seeds = list(all_formats().values())
    for number in range(390):
        data = bytearray(seeds[number % len(seeds)])
        if number % 3 == 0:
            data = data[: int(random.integers(0, len(data)))]
        else:
            for place in random.integers(0, len(data), 1 + number % 8):
                data[place] ^= 1 << int(random.integers(0, 8))
        try:
            pixels = decode(bytes(data), name=f"file {number}")
        except BadImage as error:
            assert error.path == f"file {number}"
            assert error.reason
        else:
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] == 3


@pytest.mark.realdata
def test_odd_images_are_read_or_refused_as_listed(real_data: Path) -> None:
    import csv

    folder = real_data / "odd-images"
    with (folder / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    refused_kinds = {"PSD", "ICO", "TGA", "SGI"}
    for row in rows:
        good = row["pillow13_result"] == "ok" and row["format"] not in refused_kinds
        # A size without a mode is what the list has for files that even the reader refuses.
        try:
            pixels = decode(folder / row["file"])
        except BadImage:
            assert not good, row["file"]
        else:
            assert good, row["file"]
            size = sorted(int(side) for side in row["size"].strip("()").split(","))
            assert sorted(pixels.shape[:2]) == size


@pytest.mark.realdata
def test_one_photo_in_many_formats_looks_the_same(real_data: Path) -> None:
    folder = real_data / "odd-images"
    reference = decode(folder / "hopper.png").astype(int)
    for name in ("hopper.webp", "hopper.Lab.tif", "hopper_lzma.tif", "hopper_bigtiff.tif"):
        assert np.abs(decode(folder / name) - reference).mean() < 8, name
    for number in (2, 5):
        turned = decode(folder / f"hopper_orientation_{number}.jpg")
        assert np.abs(turned - reference).mean() < 8, number


def test_bytes_and_files_have_their_name_in_the_error() -> None:
    with pytest.raises(BadImage) as caught:
        decode(io.BytesIO(b"nonsense").getvalue(), name="upload.png")
    assert caught.value.path == "upload.png"


def test_no_caller_can_raise_the_bound_on_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 24 * 32 - 1)
    for most in (24 * 32, 10**12):
        with pytest.raises(BadImage, match="24"):
            decode(encoded("PNG"), max_pixels=most)
    with pytest.raises(BadImage):
        module.decode_opened(Image.fromarray(scene()))
    monkeypatch.setattr(module, "MAX_PIXELS", 24 * 32)
    assert decode(encoded("PNG"), max_pixels=10**12).shape == (24, 32, 3)


def test_a_file_beyond_the_bound_on_bytes_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded("PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    monkeypatch.setattr(module, "MAX_FILE_BYTES", len(data))
    sources = (path, data, io.BytesIO(data))
    assert all(np.array_equal(decode(source), scene()) for source in sources)
    monkeypatch.setattr(module, "MAX_FILE_BYTES", len(data) - 1)
    for source in (path, io.BytesIO(data)):
        with pytest.raises(BadImage, match="larger than 512 MiB"):
            decode(source)
    with pytest.raises(BadImage, match="larger than 512 MiB"):
        module.read_file(path)


class _Closed:
    def read(self, count: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_an_image_whose_file_is_closed_or_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    with Image.open(tmp_path / "a.png") as image:
        pass
    with pytest.raises(BadImage, match=r"^mine: its file is already closed$"):
        module.decode_opened(image, name="mine")
    with pytest.raises(BadImage, match=r"^image: cannot be read: Input/output error$"):
        decode(_Closed())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "damaged file: it asks for more memory than is available"),
        (EOFError(), "the file is truncated"),
        (OSError("Truncated File Read"), "the file is truncated"),
        (UnidentifiedImageError("x"), "the header of the file is damaged or not supported"),
        (SyntaxError(" not a TIFF file. "), "damaged file: not a TIFF file"),
        (ValueError(), "damaged file: ValueError"),
    ],
)
def test_the_reason_is_in_plain_words(error: Exception, reason: str) -> None:
    assert module._reason(error, "file") == reason


@pytest.mark.parametrize(
    ("size", "factor"),
    [((6000, 4000), 1), ((6000, 4001), 2), ((12000, 8000), 2), ((12000, 8001), 4), ((1, 1), 1)],
)
def test_an_image_is_reduced_from_twenty_four_megapixels_on(
    size: tuple[int, int], factor: int
) -> None:
    assert module._factor(*size) == factor


@pytest.mark.parametrize(
    ("values", "top", "bytes_"),
    [
        ([0, 2048, 4095], 4095, [0, 128, 255]),
        ([0, 32768, 65535], 65535, [0, 128, 255]),
        ([128, 129, 385, 386], 65535, [0, 1, 1, 2]),
        ([0.0, 0.5, 1.0], 1.0, [0, 128, 255]),
        ([0.0, 0.0019, 0.002], 1.0, [0, 0, 1]),
    ],
)
def test_a_value_is_rounded_to_the_nearest_of_256_levels(
    values: list[float], top: float, bytes_: list[int]
) -> None:
    assert module._to_eight_bits(np.array([values]), top, "x").tolist() == [bytes_]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, 4096], "expected values from 0 to 4095, received 0 to 4096; rescale the image"),
        ([-1, 5], "expected values from 0 to 4095, received -1 to 5; rescale the image"),
        ([0, np.inf], "some values are infinite or not numbers; expected values from 0 to 4095: "
         "replace them, and save the image again"),
        ([np.nan, 1], "some values are infinite or not numbers; expected values from 0 to 4095: "
         "replace them, and save the image again"),
    ],
)  # fmt: skip
def test_values_beyond_their_type_are_refused_with_the_range(
    values: list[float], words: str
) -> None:
    with pytest.raises(BadImage) as refused:
        module._to_eight_bits(np.array([values]), 4095.0, "x")
    assert refused.value.reason == words


@pytest.mark.parametrize(
    ("limit", "words"),
    [(24 * 32, ""), (767, "24 x 32 pixels is above the limit of 0.000767 megapixels")],
)
def test_the_limit_of_pixels_is_told(limit: int, words: str) -> None:
    data = io.BytesIO()
    Image.new("RGB", (24, 32)).save(data, "PNG")
    if not words:
        assert decode(data.getvalue(), max_pixels=limit).shape == (32, 24, 3)
        return
    with pytest.raises(BadImage) as refused:
        decode(data.getvalue(), max_pixels=limit)
    assert refused.value.reason == words
