import numpy as np
import pytest

from glasshouse.explanation.draw.canvas import BODY, Canvas, shorten, text_width, to_png, wrap
from glasshouse.explanation.draw.fonts import drawable
from glasshouse.explanation.draw.overlay import ColourScale


def test_lines_are_broken_between_words_and_never_wider_than_asked() -> None:
    text = "one two three four five six seven eight nine ten"
    lines = wrap(text, 80)
    assert " ".join(lines) == text and len(lines) > 2
    assert wrap("", 80) == []
    assert "".join(wrap("x" * 200, 80)) == "x" * 200


def test_what_does_not_fit_becomes_an_ellipsis() -> None:
    assert shorten("cat", 100) == "cat"
    assert shorten("a very long name of a file.png", 80).endswith("…")
    assert shorten("a very long name of a file.png", 80, keep_end=True).endswith("file.png")


def test_images_keep_their_shape_and_their_pixels_when_they_are_enlarged() -> None:
    canvas = Canvas(50, 50)
    pixels = np.zeros((2, 4, 3), dtype=np.uint8)
    pixels[0, 0] = 255, 0, 0
    canvas.paste((1, 2), pixels, 40)
    drawn = np.asarray(canvas.image)
    assert (drawn[2:12, 1:11] == (255, 0, 0)).all()
    assert (drawn[2:22, 11:41] == 0).all() and (drawn[22:] == 255).all()


@pytest.mark.parametrize("shape", [(2, 500, 3), (500, 2, 3)])
def test_a_very_narrow_image_keeps_at_least_one_row(shape: tuple[int, int, int]) -> None:
    canvas = Canvas(50, 50)
    canvas.paste((0, 0), np.zeros(shape, dtype=np.uint8), 40)
    drawn = np.asarray(canvas.image)[..., 0] < 128
    assert sorted((drawn.any(axis=0).sum(), drawn.any(axis=1).sum())) == [1, 40]


def test_a_colour_bar_runs_from_high_to_low() -> None:
    canvas = Canvas(80, 40)
    canvas.colour_bar((0, 0), ColourScale(0.0, 1.0, "inferno"), 40)
    column = np.asarray(canvas.image)[:, 5].astype(int).sum(1)
    assert column[0] > column[20] > column[39]


def test_equal_drawings_have_equal_bytes() -> None:
    first, second = Canvas(60, 20), Canvas(60, 20)
    for canvas in (first, second):
        canvas.write((2, 2), "Grad-CAM ✓")
    assert to_png(first.image) == to_png(second.image)


@pytest.mark.parametrize(
    "word",
    ["features.denseblock4.denselayer16.norm2", "layers.3.blocks.1.norm2", "x" * 200, "猫" * 60],
)
def test_a_word_wider_than_the_line_is_broken_and_keeps_every_letter(word: str) -> None:
    lines = wrap(f"Grad-CAM at {word}", 120)
    assert max(text_width(line, BODY) for line in lines) <= 120
    assert "".join(lines).replace("Grad-CAM at", "") == drawable(word)
    if "." in word:
        assert all(line.endswith((".", "at")) for line in lines[:-1])


def test_a_number_stays_with_its_percent_sign() -> None:
    text = "It is more certain of bird (from 78 % to 98 %): look again."
    for width in range(90, 400, 10):
        lines = wrap(text, width)
        assert " ".join(lines) == text
        assert not any(line.startswith("%") for line in lines)
