from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glasshouse.data import cropping
from glasshouse.data.cropping import choose_resize
from glasshouse.data.decode import image_size
from glasshouse.data.sources import load_splits
from glasshouse.settings import DataSettings


def _images(folder: Path, sizes: list[tuple[int, int]]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(len(sizes))]
    for path, (width, height) in zip(paths, sizes, strict=True):
        Image.new("RGB", (width, height), (200, 30, 30)).save(path)
    return paths


def test_square_images_need_no_note(tmp_path: Path) -> None:
    assert choose_resize(_images(tmp_path, [(20, 20), (30, 30)])) == ("crop", "")


@pytest.mark.parametrize("size", [(40, 30), (30, 20), (20, 30)])
def test_usual_photos_are_cropped(tmp_path: Path, size: tuple[int, int]) -> None:
    resize, why = choose_resize(_images(tmp_path, [size] * 4))
    assert resize == "crop"
    assert f"removes {100 - 100 * min(size) / max(size):.0f} % of an image" in why
    assert "0 % of the 4 images" in why


@pytest.mark.parametrize("size", [(32, 18), (10, 40)])
def test_long_images_are_letterboxed(tmp_path: Path, size: tuple[int, int]) -> None:
    resize, why = choose_resize(_images(tmp_path, [size] * 3))
    assert resize == "letterbox"
    assert why.startswith("Images get grey bars")
    assert "100 % of the 3 images sampled" in why


def test_the_average_image_decides_and_not_a_single_panorama(tmp_path: Path) -> None:
    photos = [(40, 30)] * 9
    resize, why = choose_resize(_images(tmp_path / "most", [*photos, (100, 10)]))
    assert resize == "crop"
    # 9 times a quarter and once nine tenths.
    assert "removes 32 % of an image on average" in why
    assert "10 % of the 10 images" in why
    assert choose_resize(_images(tmp_path / "some", [(40, 30)] * 2 + [(100, 10)]))[0] == "letterbox"


def test_files_that_are_no_images_are_not_counted(tmp_path: Path) -> None:
    good = _images(tmp_path, [(12, 40)])
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    assert image_size(bad) is None
    assert image_size(tmp_path) is None
    assert image_size(good[0]) == (40, 12)
    assert choose_resize([*good, bad])[0] == "letterbox"
    assert choose_resize([bad]) == ("crop", "")


def test_a_folder_of_long_images_keeps_its_edges_and_says_why(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _images(tmp_path / "set" / name, [(60, 20)] * 8)
    settings = DataSettings(image_size=12, validation_fraction=0.2)
    splits = load_splits(tmp_path / "set", settings)
    assert splits.resize == "letterbox"
    assert any("grey bars" in note for note in splits.notes)
    assert (splits.train.pixels[0][:, 0] == 127).all()
    by_hand = load_splits(tmp_path / "set", settings.model_copy(update={"resize": "crop"}))
    assert by_hand.resize == "crop"
    assert not any("grey bars" in note for note in by_hand.notes)
    assert not np.any(by_hand.train.pixels == 127)


@pytest.mark.parametrize(
    ("sizes", "resize", "said"),
    [
        # A share of 35 % is still cropped.
        ([(100, 65)] * 3, "crop", "Images are cropped to squares, which removes 35 % of an image "
         "on average, and more than 35 % from 0 % of the 3 images sampled. data.resize=letterbox "
         "keeps all."),
        ([(200, 129)] * 3, "letterbox", "Images get grey bars, as cropping to squares would "
         "remove 36 % of an image on average, and more than 35 % from 100 % of the 3 images "
         "sampled. data.resize=crop crops."),
        ([(40, 40), (40, 40), (40, 10)], "crop", "Images are cropped to squares, which removes "
         "25 % of an image on average, and more than 35 % from 33 % of the 3 images sampled. "
         "data.resize=letterbox keeps all."),
    ],
)  # fmt: skip
def test_what_is_cut_off_is_told_in_full(
    tmp_path: Path, sizes: list[tuple[int, int]], resize: str, said: str
) -> None:
    assert choose_resize(_images(tmp_path, sizes)) == (resize, said)


def test_a_thousand_files_are_sampled_and_an_empty_image_is_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = [Path(f"{number}.png") for number in range(3000)]
    monkeypatch.setattr(cropping, "image_size", lambda _: (1, 2))
    assert "100 % of the 1,000 images sampled" in choose_resize(paths)[1]
    monkeypatch.setattr(cropping, "image_size", lambda path: (int(path.stem), 2))
    assert "from 50 % of the 2 images sampled" in choose_resize(paths[:3])[1]
