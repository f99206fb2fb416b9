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
