"""Uploaded photos are kept for a while, under ids that cannot be guessed."""

import io

import numpy as np
import pytest
from PIL import Image

from glasshouse.errors import BadImage
from glasshouse.serving import photos
from glasshouse.serving.photos import PhotoStore, read_photo, reasons_against
from tests.serving.test_taught_sets import png


def test_a_photo_is_found_by_its_id_alone() -> None:
    store = PhotoStore()
    key = store.keep("cat.png", png(0))
    found = store.photo(key)
    assert found is not None and found.name == "cat.png" and found.pixels.shape == (20, 24, 3)
    assert len(key) >= 20 and store.keep("cat.png", png(0)) != key
    assert store.photo("cat.png") is None and store.photo("") is None


def test_the_oldest_photos_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "_MOST_KEPT", 2)
    store = PhotoStore()
    first, second = store.keep("1", png(1)), store.keep("2", png(2))
    assert store.photo(first) is not None  # used: the second is now the oldest
    third = store.keep("3", png(3))
    assert [store.photo(key) is not None for key in (first, second, third)] == [True, False, True]
    monkeypatch.setattr(photos, "_MOST_BYTES", len(png(3)) + 10)
    assert store.photo(store.keep("4", png(4))) is not None
    assert store.photo(third) is None


def test_reasons_come_in_the_order_of_the_files() -> None:
    good, bad = png(0), b"GIF89a"
    assert [bool(reason) for reason in reasons_against([bad, good, b"", good])] == [
        True,
        False,
        True,
        False,
    ]
    assert reasons_against([]) == []
    with pytest.raises(BadImage, match=r"cat\.gif"):
        read_photo(bad, "cat.gif")


def test_a_photo_of_few_grey_levels_carries_a_warning() -> None:
    values = np.linspace(0, 4095, 20 * 24).reshape(20, 24).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    photo = read_photo(file.getvalue(), "scan.png")
    assert "scan.png (values 0 to 4,095 of 65,535)" in photo.warning
    store = PhotoStore()
    kept = store.photo(store.keep("scan.png", file.getvalue()))
    assert kept is not None and kept.warning == photo.warning
    file = io.BytesIO()
    Image.fromarray((values // 16).astype(np.uint8)).save(file, "PNG")
    assert read_photo(file.getvalue(), "plain.png").warning == ""


def test_a_photo_of_several_frames_carries_a_warning() -> None:
    file = io.BytesIO()
    Image.new("L", (24, 20)).save(
        file, "GIF", save_all=True, append_images=[Image.new("L", (24, 20), 9)]
    )
    photo = read_photo(file.getvalue(), "moving.gif")
    assert photo.warning == "moving.gif: several frames or pages, of which only the first is used"
