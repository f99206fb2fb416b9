"""Placeholder cards are found among photos, and nothing else is."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from glasshouse.data.decode import decode
from glasshouse.data.digits import read_digits
from glasshouse.data.fitting import Resize, fit_to_size
from glasshouse.data.images import ImageSet
from glasshouse.data.placeholders import placeholders_in
from glasshouse.data.shapes import make_shapes
from tests.data.placeholder_cards import CARDS, card


def photos(count: int, size: int = 64) -> list[NDArray[np.uint8]]:
    """Random blobs of colour ``(3, size, size)``, with soft edges like those of a photo."""
    small = np.random.default_rng(0).integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)
    return [fit_to_size(each, size, size) for each in small]


def image_set(images: list[NDArray[np.uint8]], labels: list[int] | None = None) -> ImageSet:
    return ImageSet(
        np.stack(images),
        np.array([0] * len(images) if labels is None else labels, dtype=np.int64),
        np.array([f"image/{number:04d}" for number in range(len(images))]),
        ("ant", "bee"),
    )


@pytest.mark.parametrize("resize", ["crop", "letterbox", "stretch"])
@pytest.mark.parametrize("size", [64, 224])
@pytest.mark.parametrize("name", CARDS)
def test_a_card_among_photos_is_found(name: str, size: int, resize: Resize) -> None:
    images = [*photos(7, size), fit_to_size(CARDS[name], size, size, resize)]
    assert placeholders_in(image_set(images)).tolist() == [False] * 7 + [True]


def test_a_card_is_found_in_a_class_of_three() -> None:
    images = [*photos(5), fit_to_size(card("image not found"), 64, 64)]
    found = placeholders_in(image_set(images, [0, 0, 0, 1, 1, 1]))
    assert found.tolist() == [False] * 5 + [True]


def test_a_class_of_flat_images_consists_of_drawings_and_not_of_placeholders() -> None:
    cards = [fit_to_size(card(f"sign {number}"), 64, 64) for number in range(6)]
    assert not placeholders_in(image_set([*photos(6), *cards], [0] * 6 + [1] * 6)).any()


def test_tiny_images_are_not_judged() -> None:
    assert not placeholders_in(image_set([fit_to_size(CARDS["grey"], 32, 32)])).any()


def test_images_of_one_colour_are_no_placeholders() -> None:
    flat = [np.full((3, 64, 64), level, dtype=np.uint8) for level in (0, 127, 255)]
    assert not placeholders_in(image_set(flat)).any()


@pytest.mark.parametrize(("size", "count"), [(64, 300), (128, 100)])
def test_drawn_shapes_raise_no_false_alarm(size: int, count: int) -> None:
    assert not placeholders_in(make_shapes("test", count, size=size)).any()


@pytest.mark.parametrize("size", [8, 64])
def test_scanned_digits_raise_no_false_alarm(size: int) -> None:
    images = read_digits()
    large = [fit_to_size(each.transpose(1, 2, 0), size, size) for each in images.pixels]
    enlarged = ImageSet(np.stack(large), images.labels, images.ids, images.class_names)
    assert not placeholders_in(enlarged).any()


@pytest.mark.realdata
@pytest.mark.parametrize("resize", ["crop", "letterbox"])
def test_among_real_photos_only_the_placeholder_is_found(resize: Resize) -> None:
    folder = Path(os.environ["GLASSHOUSE_DATA"]) / "hymenoptera"
    paths = sorted(path for path in folder.glob("*/*/*") if path.is_file())
    pixels = [fit_to_size(decode(path), 64, 64, resize) for path in paths]
    found = placeholders_in(image_set(pixels))
    assert [paths[k].name for k in np.flatnonzero(found)] == ["imageNotFound.gif"]


@pytest.mark.parametrize(
    ("flat", "others", "is_found"), [(1, 1, True), (2, 6, True), (2, 5, False)]
)
def test_cards_are_exceptions_up_to_a_quarter_of_their_class(
    flat: int, others: int, is_found: bool
) -> None:
    cards = [fit_to_size(card("image not found"), 64, 64)] * flat
    found = placeholders_in(image_set([*photos(others), *cards]))
    assert found.tolist() == [False] * others + [is_found] * flat


def striped(
    *,
    size: tuple[int, int] = (100, 100),
    row: int = 50,
    rows: int = 4,
    columns: tuple[int, ...] = (10, 20, 30),
    ink: int = 100,
) -> NDArray[np.uint8]:
    """A card of 200 with strokes of five pixels that begin in some columns of some rows."""
    grey = np.full(size, 200, dtype=np.uint8)
    for column in columns:
        grey[row : row + rows, column : column + 5] = ink
    return np.repeat(grey[None], 3, axis=0)


def changed(image: NDArray[np.uint8], count: int, channel: int, by: int) -> NDArray[np.uint8]:
    """The image with the first pixels of a channel made lighter, or of all channels."""
    channels = slice(None) if channel < 0 else [channel]
    image.reshape(3, -1)[channels, :count] += np.uint8(by)
    return image


@pytest.mark.parametrize(
    ("image", "is_card"),
    [
        (striped(), True),
        # Six times across an edge: the last stroke has one side where it ends with the row.
        (striped(columns=(10, 20)), False),
        (striped(columns=(10, 20, 95)), False),
        (striped(columns=(0, 20, 30, 95)), True),
        # Below 48 pixels nothing is judged.
        (striped(size=(48, 60), row=10), True),
        (striped(size=(47, 60), row=10), False),
        (striped(size=(60, 48), row=10), True),
        (striped(size=(60, 47), row=10), False),
        # Four fifths of one value, give or take one level: 60 in 400 are ink.
        (changed(striped(), 1940, -1, 2), True),
        (changed(striped(), 1941, -1, 2), False),
        (changed(striped(), 5000, -1, 1), True),
        # 97 % without colour: a difference of up to 16 levels between channels.
        (changed(striped(), 300, 0, 17), True),
        (changed(striped(), 301, 0, 17), False),
        (changed(striped(), 5000, 0, 16), True),
        (changed(striped(), 300, 2, 17), True),
        (changed(striped(), 301, 2, 17), False),
        # Ink differs by ten levels, in more than half a percent of the pixels.
        (striped(ink=190), True),
        (striped(ink=191), False),
        (striped(ink=210), True),
        (striped(rows=4, columns=(10, 20, 30)), True),
        (striped(rows=3, columns=(10, 20, 30)), False),
    ],
)
def test_each_limit_of_a_card_holds_on_both_sides(image: NDArray[np.uint8], is_card: bool) -> None:
    assert placeholders_in(image_set([image])).tolist() == [is_card]


@pytest.mark.parametrize(("pale", "is_card"), [(25, False), (26, True)])
def test_pale_strokes_count_from_a_quarter_of_the_contrast(pale: int, is_card: bool) -> None:
    image = striped(columns=(10,), rows=40)
    image[:, 10, [60, 70, 80]] -= np.uint8(pale)
    assert placeholders_in(image_set([image])).tolist() == [is_card]


@pytest.mark.parametrize("row", [0, -1])
def test_bars_are_left_out_to_the_pixel(row: int) -> None:
    # Text in an outermost row, which reaches both outermost columns: six edges, and five without
    # one of them. The block elsewhere is enough ink, with two edges.
    inner = np.full((3, 60, 80), 200, dtype=np.uint8)
    inner[:, 20:30, 60:66] = 100
    inner[:, row, [0, 20, 40, 79]] = 100

    def is_card(image: NDArray[np.uint8], *bars: int) -> bool:
        framed = np.pad(image, ((0, 0), bars[:2], bars[2:]), constant_values=127)
        return bool(placeholders_in(image_set([framed]))[0])

    assert is_card(inner, 20, 20, 6, 6)
    assert is_card(inner, 0, 40, 12, 0) and is_card(inner, 40, 0, 0, 12)
    lost = slice(1, None) if row == 0 else slice(-1)
    for less in (inner[:, lost], inner[:, :, 1:], inner[:, :, :-1]):
        assert not is_card(less, 20, 20, 6, 6)
