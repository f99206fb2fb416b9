from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glasshouse.data import sources
from glasshouse.data.images import Splits, take
from glasshouse.data.sources import fingerprint, load_splits, require_source, source_name
from glasshouse.errors import DataError, UsageError
from glasshouse.settings import DataSettings
from tests.data.image_files import write_folder


def test_digits_are_split_without_overlap_and_reproducibly() -> None:
    splits, again = load_splits("digits", DataSettings()), load_splits("digits", DataSettings())
    parts = [set(part.ids) for part in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797
    assert fingerprint(splits) == fingerprint(again)
    other = load_splits("digits", DataSettings(split_seed=1))
    assert fingerprint(other) != fingerprint(splits)


def test_a_limit_keeps_classes_balanced_and_other_splits_complete() -> None:
    whole = load_splits("digits", DataSettings())
    limited = load_splits("digits", DataSettings(train_limit=55))
    assert sorted(np.bincount(limited.train.labels).tolist()) == [5] * 5 + [6] * 5
    assert set(limited.train.ids) <= set(whole.train.ids)
    assert limited.test.ids.tolist() == whole.test.ids.tolist()
    with pytest.raises(DataError, match="fewer than the 10 classes"):
        load_splits("digits", DataSettings(train_limit=9))


def test_a_source_is_resized_to_the_requested_size(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = load_splits("digits", DataSettings(image_size=20, train_limit=20))
    assert splits.train.pixels.shape == (20, 3, 20, 20)
    counts = {"train": 12, "validation": 2, "test": 3}
    monkeypatch.setattr(sources, "_SHAPES_COUNTS", counts)
    monkeypatch.setattr(sources, "_MULTI_SHAPES_COUNTS", counts)
    for source in ("shapes", "shapes-multi"):
        for size in (16, 48):
            made = load_splits(source, DataSettings(image_size=size))
            assert made.notes == ("The images are generated with seed 0.",)
            assert [len(each) for each in (made.train, made.validation, made.test)] == [12, 2, 3]
            assert made.train.pixels.shape[2:] == (size, size)
            assert made.train.masks is not None
            assert made.train.masks.shape[-2:] == (size, size)
            assert made.train.is_multi_label == (source == "shapes-multi")


def test_an_unknown_source_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="Did you mean 'digits'"):
        load_splits("digit", DataSettings())


@pytest.mark.parametrize("source", ["", " "])
def test_an_empty_name_is_not_the_current_folder(source: str) -> None:
    with pytest.raises(UsageError, match=r"is empty; the current folder is '\.'"):
        load_splits(source)


def test_the_fingerprint_tells_one_label_of_several_from_the_only_class() -> None:
    images = take(load_splits("digits", DataSettings()).train, range(4))
    alone = replace(images, targets=np.zeros(4, np.int64), class_names=("a",))
    several = replace(alone, targets=np.zeros((4, 1), bool))
    assert fingerprint(Splits(alone, alone, alone)) != fingerprint(
        Splits(several, several, several)
    )


def test_the_fingerprint_sees_pixels_labels_and_names(tmp_path: Path) -> None:
    settings = DataSettings(image_size=8)
    write_folder(tmp_path / "a", {"cat": 5, "dog": 5})
    first = fingerprint(load_splits(tmp_path / "a", settings))
    write_folder(tmp_path / "b", {"cat": 5, "dog": 5})
    assert fingerprint(load_splits(tmp_path / "b", settings)) == first
    (tmp_path / "b" / "cat" / "000.png").write_bytes((tmp_path / "b/dog/001.png").read_bytes())
    assert fingerprint(load_splits(tmp_path / "b", settings)) != first
    (tmp_path / "a" / "cat").rename(tmp_path / "a" / "cow")
    assert fingerprint(load_splits(tmp_path / "a", settings)) != first


@pytest.mark.parametrize("source", ["digits", "folder"])
def test_training_on_validation_images_is_noted(source: str, tmp_path: Path) -> None:
    if source == "folder":
        source = str(write_folder(tmp_path / "images", {"ant": 12, "bee": 12}))
    apart = load_splits(source, DataSettings())
    joined = load_splits(source, DataSettings(train_on_validation=True))
    assert set(joined.train.ids) == {*apart.train.ids, *apart.validation.ids}
    assert len(joined.train) == len(apart.train) + len(apart.validation)
    assert joined.validation.ids.tolist() == apart.validation.ids.tolist()
    assert joined.test.ids.tolist() == apart.test.ids.tolist()
    assert "trained on as well" in joined.notes[-1]


def test_a_source_is_required_by_name_without_reading_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "table.csv").write_text("not a table")
    for source in ("digits", tmp_path, tmp_path / "table.csv"):
        require_source(source)
    with pytest.raises(DataError, match="is not a source"):
        require_source(tmp_path / "notes.txt")
    with pytest.raises(UsageError, match="Did you mean 'digits'"):
        require_source("digit")


def test_splits_load_without_settings_and_print_as_a_few_lines() -> None:
    splits = load_splits("digits")
    assert fingerprint(splits) == fingerprint(load_splits("digits", DataSettings()))
    count = f"{len(splits.train):,} images"
    assert count in repr(splits.train) and repr(splits.train) in repr(splits)
    assert len(repr(splits).splitlines()) == 6


def test_the_name_of_a_source_is_that_of_its_folder_or_file_also_from_within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos.v2"
    (folder / "deep").mkdir(parents=True)
    (folder / "table.csv").write_text("")
    monkeypatch.chdir(folder / "deep")
    assert source_name("..") == source_name(folder) == "photos.v2"
    assert source_name("../table.csv") == "table"
    assert source_name("digits") == "digits"


def test_the_name_of_a_source_leaves_room_for_that_of_a_run(tmp_path: Path) -> None:
    (tmp_path / ("x" * 255)).mkdir()
    for source in (tmp_path / ("x" * 255), f"memory://place/{'x' * 255}"):
        (tmp_path / f"{source_name(source)}-tutorial-basic-no-augment-30min-12").mkdir(
            exist_ok=True
        )
        assert source_name(source) == "x" * 120


def test_a_source_whose_name_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot use the path .*\.\.\..*too long; name another"):
        load_splits(tmp_path / ("x" * 300))


def test_the_fingerprint_of_a_data_set_is_what_it_was() -> None:
    # It is part of every run: another value for the same images would leave all of them unable to
    # be resumed.
    assert fingerprint(load_splits("digits")) == (
        "36f842981bd7c0af480ffa6a85443b49980455fe8e4d565f99596c7ff1ac4c06"
    )
