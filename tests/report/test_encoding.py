"""Images and figures as bytes."""

import base64
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from glasshouse.explanation.draw.fonts import drawable, families
from glasshouse.report.encoding import data_uri, figure_png, image_uri, rows_first


def opened(uri: str) -> Image.Image:
    head, _, text = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(io.BytesIO(base64.b64decode(text)))


def image(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)


def test_a_small_image_is_kept_to_the_pixel() -> None:
    original = image(20, 32)
    found = np.asarray(opened(image_uri(original)))
    assert np.array_equal(found, original.transpose(1, 2, 0))


def test_a_large_image_is_shrunk_in_proportion() -> None:
    found = opened(image_uri(image(300, 600)))
    assert (found.format, found.size) == ("JPEG", (192, 96))


def test_floats_are_rounded_and_clipped() -> None:
    changed = np.array([-9.0, 0.4, 0.6, 300.0], np.float32).reshape(1, 2, 2).repeat(3, axis=0)
    assert rows_first(changed)[:, :, 0].tolist() == [[0, 0], [1, 255]]


def test_a_figure_becomes_png_with_its_own_background() -> None:
    image = Image.open(io.BytesIO(figure_png(Figure((2, 1), facecolor="#171b22"), dpi=50)))
    assert image.size == (100, 50)
    assert image.convert("RGB").getpixel((0, 0)) == (0x17, 0x1B, 0x22)


@pytest.mark.parametrize("name", ["猫", "قطة", "🐈"])
def test_names_in_any_script_give_no_warning_of_missing_glyphs(name: str) -> None:
    figure = Figure((2, 1))
    text = drawable(name)
    figure.text(0.5, 0.5, text, family=families([text]), parse_math=False)
    assert figure_png(figure, dpi=40)[1:4] == b"PNG"


def test_a_data_uri_has_the_bytes() -> None:
    assert data_uri(b"glass", "image/png") == "data:image/png;base64,Z2xhc3M="
