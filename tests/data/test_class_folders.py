from pathlib import Path

import pytest

from glasshouse.data.class_folders import list_folder
from glasshouse.data.sources import load_splits
from glasshouse.errors import DataError
from glasshouse.settings import DataSettings
from tests.data.image_files import write_folder

SMALL = DataSettings(image_size=8)


def test_ids_are_paths_and_classes_come_from_all_splits(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/dog": 2, "train/cat": 2, "test/dog": 1, "test/cat": 1})
    listing = list_folder(tmp_path)
    assert listing.class_names == ("cat", "dog")
    assert listing.ids.tolist() == [
        "test/cat/000.png", "test/dog/000.png", "train/cat/000.png", "train/cat/001.png",
        "train/dog/000.png", "train/dog/001.png",
    ]  # fmt: skip
    assert listing.labels.tolist() == [0, 1, 0, 0, 1, 1]
    assert listing.given_splits == ("test", "test", "train", "train", "train", "train")


def test_deeper_files_belong_to_the_class_and_hidden_ones_to_none(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 1, "cat/2024/may": 1, "dog": 1, ".cache": 1, "__MACOSX": 1})
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / "dog" / "notes.txt").write_text("good dog")
    listing = list_folder(tmp_path)
    assert listing.ids.tolist() == ["cat/000.png", "cat/2024/may/000.png", "dog/000.png"]
    assert listing.notes == ("1 file without the extension of an image was ignored.",)


def test_without_given_splits_each_class_is_split_by_a_hash(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 20, "dog": 20})
    splits = load_splits(tmp_path, SMALL)
    sizes = [len(part) for part in (splits.train, splits.validation, splits.test)]
    assert sum(sizes) == 40
    assert min(sizes) >= 2
    assert "held out for test" in splits.notes[0]
    assert splits.train.pixels.shape[1:] == (3, 8, 8)


def test_adding_files_moves_none_to_another_split(tmp_path: Path) -> None:
    root = tmp_path / "images"
    write_folder(root, {"cat": 40, "dog": 40})
    before = load_splits(root, SMALL)
    write_folder(root, {"cat": 60, "dog": 60})
    after = load_splits(root, SMALL)
    for part in ("train", "validation", "test"):
        assert set(getattr(before, part).ids) <= set(getattr(after, part).ids)


def test_with_train_and_test_validation_is_held_out_of_train(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/cat": 9, "train/dog": 9, "test/cat": 2, "test/dog": 2})
    splits = load_splits(tmp_path, SMALL)
    assert {i.split("/")[0] for i in splits.validation.ids} == {"train"}
    assert len(splits.test) == 4
    assert len(splits.train) + len(splits.validation) == 18


def test_with_train_and_validation_only_validation_becomes_test(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/cat": 9, "train/dog": 9, "val/cat": 2, "val/dog": 2})
    splits = load_splits(tmp_path, SMALL)
    assert {i.split("/")[0] for i in splits.test.ids} == {"val"}
    assert "used as test" in splits.notes[0]


def test_three_given_splits_are_used_unchanged(tmp_path: Path) -> None:
    write_folder(
        tmp_path,
        {f"{part}/{name}": 2 for part in ("train", "valid", "test") for name in ("cat", "dog")},
    )
    splits = load_splits(tmp_path, SMALL)
    assert splits.notes == ("Train, validation and test are the splits of the source.",)
    assert {i.split("/")[0] for i in splits.validation.ids} == {"valid"}


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "no class folders with images"),
        ({"cat": 5}, r"only one class \('cat'\)"),
        ({"cat": 5, "dog": 2}, "class 'dog' .* has 2 images; expected at least 3"),
        ({"cat": 5, "dog": 0}, "class 'dog' .* has 0 images"),
        (
            {"train/cat": 5, "train/dog": 5, "val/cat": 2, "test/cat": 1, "test/dog": 1},
            "the validation split .* has no image of class 'dog'",
        ),
        ({"train/cat": 5, "test/cat": 2, "test/dog": 2}, "train split .* no image of class 'dog'"),
        ({"test/cat": 5, "test/dog": 5}, "only a test split; expected a train split"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, classes: dict[str, int], message: str) -> None:
    write_folder(tmp_path, classes)
    with pytest.raises(DataError, match=message):
        load_splits(tmp_path, SMALL)


def test_bad_files_are_refused_or_skipped_by_name(tmp_path: Path) -> None:
    root = tmp_path / "images"
    write_folder(root, {"cat": 12, "dog": 60})
    for i in range(25):
        (root / "dog" / f"bad{i:02}.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"(?s)25 of 97 .*bad00\.jpg: .*and 5 more.*skip"):
        load_splits(root, SMALL)
    splits = load_splits(root, SMALL.model_copy(update={"on_bad_file": "skip"}))
    assert len(splits.bad_files) == 25
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 72
    assert not any("bad" in i for i in splits.train.ids)
