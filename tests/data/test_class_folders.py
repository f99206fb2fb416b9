import os
from pathlib import Path

import numpy as np
import pytest

from glasshouse.data.class_folders import _IMAGE_ENDINGS, list_folder
from glasshouse.data.headers import _SAYING
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
    assert listing.targets.tolist() == [0, 1, 0, 0, 1, 1]
    assert listing.given_splits == ("test", "test", "train", "train", "train", "train")


def test_deeper_files_belong_to_the_class_and_hidden_ones_to_none(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 1, "cat/2024/may": 1, "dog": 1, ".cache": 1, "__MACOSX": 1})
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / "dog" / "notes.txt").write_text("good dog")
    listing = list_folder(tmp_path)
    assert listing.ids.tolist() == ["cat/000.png", "cat/2024/may/000.png", "dog/000.png"]
    assert listing.notes == (
        "1 file without the extension of an image was ignored: dog/notes.txt.",
    )


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


SPLITS = {f"{part}/{name}": 3 for part in ("train", "val", "test") for name in ("cat", "dog")}


@pytest.mark.parametrize("extra", ["extra", "data", "data/train/cat"])
def test_a_folder_next_to_the_splits_is_left_out_and_named(tmp_path: Path, extra: str) -> None:
    write_folder(tmp_path, {**SPLITS, extra: 2})
    listing = list_folder(tmp_path)
    assert listing.class_names == ("cat", "dog")
    assert set(listing.given_splits or ()) == {"train", "validation", "test"}
    name = extra.partition("/")[0]
    assert listing.notes == (f"1 folder next to the splits was left out: {name} (2 images).",)
    assert not any(each.startswith(name) for each in listing.ids)


def test_one_split_next_to_folders_with_images_may_be_a_class_and_is_refused(
    tmp_path: Path,
) -> None:
    write_folder(tmp_path, {"train/steam": 3, "train/diesel": 3, "bus": 3, "car": 3})
    with pytest.raises(DataError, match="train, which looks like a split, next to bus, car, which"):
        list_folder(tmp_path)


def test_one_split_next_to_a_folder_without_images_is_used(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/cat": 3, "train/dog": 3, "docs": 0})
    listing = list_folder(tmp_path)
    assert listing.class_names == ("cat", "dog")
    assert listing.notes == ("1 folder next to the splits was left out: docs (0 images).",)


def test_classes_may_be_called_like_splits(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 3, "bus": 3})
    assert list_folder(tmp_path).class_names == ("bus", "train")


@pytest.mark.parametrize("inner", ["train", "Train/cat"])
def test_splits_within_a_class_are_not_mixed(tmp_path: Path, inner: str) -> None:
    write_folder(tmp_path, {"cat": 3, f"dog/{inner}": 3, "dog/other": 1, "dog/val": 0})
    assert list_folder(tmp_path).class_names == ("cat", "dog")
    write_folder(tmp_path, {"dog/test": 1})
    first = inner.partition("/")[0]
    with pytest.raises(DataError, match=f"splits within a class.* outside, as in {first}/dog"):
        list_folder(tmp_path)


def test_a_test_split_without_class_folders_is_left_out_and_named(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/cat": 3, "train/dog": 3, "test": 4})
    listing = list_folder(tmp_path)
    assert set(listing.given_splits or ()) == {"train"}
    assert listing.notes == ("1 split without class folders was left out: test (4 images).",)


@pytest.mark.parametrize("classes", [SPLITS, {"cat": 3, "dog": 3}])
def test_a_folder_that_an_archive_has_doubled_is_looked_into(
    tmp_path: Path, classes: dict[str, int]
) -> None:
    root = tmp_path / "data"
    write_folder(root / "data", classes)
    listing = list_folder(root)
    assert listing.class_names == ("cat", "dog")
    assert all(name.startswith("data/") for name in listing.ids)


def test_a_single_class_with_subfolders_is_not_taken_apart(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat/2023": 5, "cat/2024": 5})
    assert list_folder(tmp_path).class_names == ("cat",)


def test_results_of_runs_are_never_classes_or_images(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 2, "dog": 2, "cat/deep": 1})
    for run in ("runs/photos-1", "runs/many/seed-0", "cat/deep/run"):
        write_folder(tmp_path, {f"{run}/plots": 2})
        for name in ("recipe.toml", "environment.json"):
            (tmp_path / run / name).write_text("")
    write_folder(tmp_path, {"explanations/a-1": 1})
    for name in ("page.json", "images.npy"):
        (tmp_path / "explanations" / "a-1" / name).write_text("")
    listing = list_folder(tmp_path)
    assert listing.class_names == ("cat", "dog")
    assert len(listing.paths) == 5
    (note,) = listing.notes
    assert note.startswith("4 folders with results of Glasshouse are no class: cat/deep/run, ex")


def test_nothing_vanishes_without_being_counted_and_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "root", {"cat": 2, "dog": 2, "cat/@eaDir": 2, "dog/.thumbnails": 1})
    write_folder(tmp_path / "elsewhere", {"more": 3})
    root = tmp_path / "root"
    (root / "cat" / "linked").symlink_to(tmp_path / "elsewhere" / "more")
    (root / "loose.png").write_bytes((root / "cat" / "000.png").read_bytes())
    (root / "cat" / "IMG_0001").write_bytes((root / "cat" / "000.png").read_bytes())
    listing = list_folder(root)
    assert len(listing.paths) == 4
    assert set(listing.notes) == {
        "1 image next to the class folders was left out: loose.png.",
        "1 link to a folder was not followed: cat/linked.",
        "2 folders of thumbnails were left out: cat/@eaDir, dog/.thumbnails.",
        "1 file without the extension of an image was ignored: cat/IMG_0001.",
    }


def test_files_next_to_splits_and_class_folders_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path, {f"{split}/{name}": 2 for split in ("train", "test") for name in "ab"})
    image = (tmp_path / "train" / "a" / "000.png").read_bytes()
    for name in ("loose.png", "labels.txt", "test/IMG_0001", "test/.hidden", "Thumbs.db"):
        (tmp_path / name).write_bytes(image)
    (tmp_path / "train" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "@eaDir").mkdir()
    assert set(list_folder(tmp_path).notes) == {
        "1 folder of thumbnails was left out: @eaDir.",
        "2 images next to the class folders were left out: loose.png, train/gone.png.",
        "2 files without the extension of an image were ignored: labels.txt, test/IMG_0001.",
    }


def test_a_link_to_a_folder_above_is_no_class(tmp_path: Path) -> None:
    write_folder(tmp_path / "root", {"cat": 2, "dog": 2})
    write_folder(tmp_path / "elsewhere", {"cow": 2})
    for name, target in (("self", "."), ("above", ".."), ("cow", "../elsewhere/cow")):
        (tmp_path / "root" / name).symlink_to(target)
    listing = list_folder(tmp_path / "root")
    assert listing.class_names == ("cat", "cow", "dog")
    assert listing.notes == ("2 links to a folder were not followed: above, self.",)


def test_many_names_are_shortened(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 2, "dog": 2})
    for number in range(8):
        (tmp_path / "cat" / f"{number}.txt").write_text("")
    (note,) = list_folder(tmp_path).notes
    assert note.endswith(
        "ignored: cat/0.txt, cat/1.txt, cat/2.txt, cat/3.txt, cat/4.txt and 3 more."
    )


def test_a_folder_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path, {"cat": 2, "dog": 2, "cat/deep": 2})
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot read the folder .*deep: Permission denied"):
        list_folder(tmp_path)


def test_folders_that_are_numbers_are_ordered_by_value(tmp_path: Path) -> None:
    write_folder(tmp_path, dict.fromkeys(["0", "1", "10", "2"], 1))
    listing = list_folder(tmp_path)
    assert listing.class_names == ("0", "1", "2", "10")
    assert [listing.class_names[k] for k in listing.targets] == ["0", "1", "10", "2"]


def test_one_name_in_two_unicode_forms_is_one_class_in_all_splits(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    write_folder(
        tmp_path,
        {
            f"train/{composed}": 6, "train/bar": 6, f"val/{decomposed}": 2, "val/bar": 2,
            f"test/{decomposed}": 2, "test/bar": 2,
        },
    )  # fmt: skip
    splits = load_splits(tmp_path, SMALL)
    assert splits.class_names == ("bar", composed)
    assert np.bincount(splits.test.labels).tolist() == [2, 2]
    assert any("are one class" in note for note in splits.notes)


def test_names_that_look_alike_stay_classes_with_a_note(tmp_path: Path) -> None:
    write_folder(tmp_path, {"Cat": 3, "cat": 3, "cat ": 3, "dog": 3})
    splits = load_splits(tmp_path, SMALL)
    assert splits.class_names == ("Cat", "cat", "dog")
    (note,) = [note for note in splits.notes if "look alike" in note]
    assert "'Cat' and 'cat'" in note


def test_folders_of_the_same_names_in_all_classes_may_be_the_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, {f"{way}/{name}": 1 for way in ("colour", "grey") for name in "ab"})
    listing = list_folder(tmp_path)
    assert listing.class_names == ("colour", "grey")
    assert listing.notes[0].startswith(
        "The classes are the outer folders (colour, grey), which hold folders of the same names "
        "(a, b)."
    )
    write_folder(tmp_path, {"grey": 1})
    assert list_folder(tmp_path).notes == ()


def test_where_one_folder_holds_several_these_may_be_the_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, {"Images/cat": 3, "Images/dog": 3})
    with pytest.raises(DataError, match=r"folders in it \(cat, dog\) are .*/Images as the"):
        load_splits(tmp_path, SMALL)


@pytest.mark.parametrize("name", ["$RECYCLE.BIN", "System Volume Information", "lost+found"])
def test_folders_of_the_system_are_no_classes(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, {"cat": 1, "dog": 1, name: 1})
    assert list_folder(tmp_path).class_names == ("cat", "dog")


def test_every_ending_of_a_format_that_is_read_is_that_of_an_image() -> None:
    assert _SAYING <= _IMAGE_ENDINGS


@pytest.mark.parametrize("doubled", ["", "training_set/", "Test_Set/"])
def test_sets_are_splits_also_where_an_archive_has_doubled_them(
    tmp_path: Path, doubled: str
) -> None:
    ways = [
        f"{way}/{doubled if doubled == f'{way}/' else ''}" for way in ("training_set", "Test_Set")
    ]
    write_folder(tmp_path, {f"{way}{name}": 2 for way in ways for name in ("cat", "dog")})
    listing = list_folder(tmp_path)
    assert listing.class_names == ("cat", "dog")
    assert set(listing.given_splits or ()) == {"train", "test"}
    assert listing.notes == ()


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("seg_test", "seg_train", "x"), "seg_test and seg_train"),
        (("train", "test2017"), "test2017 and train"),
        (("train", "bus"), ""),
        (("test_a", "test_b"), ""),
        (("constraint", "contest"), ""),
    ],
)
def test_classes_that_are_named_like_splits_are_noted(
    tmp_path: Path, names: tuple[str, ...], shown: str
) -> None:
    write_folder(tmp_path, dict.fromkeys(names, 1))
    notes = list_folder(tmp_path).notes
    assert [note.startswith(f"The classes {shown} are named like splits.") for note in notes] == (
        [True] if shown else []
    )
