from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from glasshouse.data import sources
from glasshouse.data.fitting import Fitting, fit
from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.data.listings import list_source
from glasshouse.data.sources import (
    Access,
    absolute_source,
    fingerprint,
    is_multi_label,
    load_for_evaluation,
    load_splits,
    read_again,
    require_source,
    source_name,
)
from glasshouse.errors import DataError, GlasshouseWarning, UsageError
from glasshouse.settings import DataSettings
from glasshouse.wording import percentage
from tests.data.image_files import write_folder
from tests.data.shard_files import write_tar


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


def few(count: int = 4, masks: bool = False, side: int = 8) -> ImageSet:
    """Images of two classes that are all different."""
    random = np.random.default_rng(count)
    pixels = random.integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    ids = np.array([f"{count}/{n}" for n in range(count)])
    own = random.integers(0, 2, (count, side, side)).astype(bool) if masks else None
    return ImageSet(pixels, np.arange(count) % 2, ids, ("a", "b"), own)


def test_a_name_that_is_no_source_is_told_what_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "cats.ZIP").touch()
    absent = "the folder or table {} does not exist"
    expected = {
        "notes.txt": "notes.txt is not a source: expected a folder of class folders, a table "
        "(.csv, .tsv, .parquet), Parquet files with images or tar shards",
        "cats.ZIP": "cats.ZIP is not a source: expected a folder of class folders, a table "
        "(.csv, .tsv, .parquet), Parquet files with images or tar shards; unpack it to class "
        "folders",
        "x.csv": absent.format("x.csv"),
        "a/b": absent.format("a/b"),
        "photos/": absent.format("photos"),
        "photos\\": absent.format("photos\\"),
        "zzzzzz": "unknown source 'zzzzzz': expected cifar10, digits, shapes, shapes-multi, a "
        "folder, a table, shards or an address",
        "shape": "unknown source 'shape': expected cifar10, digits, shapes, shapes-multi, a "
        "folder, a table, shards or an address. Did you mean 'shapes'?",
    }
    for name, words in expected.items():
        with pytest.raises((UsageError, DataError)) as found:
            require_source(name)
        assert str(found.value) == words
    with pytest.raises(UsageError, match="pass an address as text, since a path has no two slash"):
        require_source(Path("s3://bucket/x"))
    with pytest.raises(DataError, match="the folder or table digits/x does not exist"):
        require_source(Path("digits/x"))
    require_source("x-{0..3}.tar")
    with pytest.raises(UsageError, match="--offline allows no connection"):
        require_source("memory://x", offline=True)
    require_source("memory://x")


def test_which_sources_may_have_several_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("shapes-multi", "shapes", "digits", "memory://shapes-multi")
    assert [is_multi_label(name) for name in names] == [True, False, False, False]
    targets: np.ndarray = np.zeros((2, 2), bool)
    monkeypatch.setattr(sources, "list_source", lambda source: SimpleNamespace(targets=targets))
    assert is_multi_label(tmp_path)
    targets = np.zeros(2, np.int64)
    assert not is_multi_label(tmp_path)
    with pytest.raises(UsageError, match="unknown source"):
        is_multi_label("nothing")


@pytest.mark.parametrize(
    ("given", "is_whole", "is_unsplit"),
    [
        (None, True, True),
        (None, False, False),
        (("test", "validation"), True, True),
        (("test",), False, True),
        (("test", "train"), True, False),
        (("train",), False, False),
    ],
)
def test_what_a_classifier_is_evaluated_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any, is_whole: bool, is_unsplit: bool
) -> None:
    listing = SimpleNamespace(given_splits=given, left_out=())
    settings, access, asked = DataSettings(), Access(offline=True), []
    fitting = Fitting(8, 8)

    def listed(source: object, **options: object) -> Any:
        asked.append(options)
        return listing

    monkeypatch.setattr(sources, "list_source", listed)
    monkeypatch.setattr(sources, "load_unsplit", lambda *given: ("unsplit", given))
    split = lambda *given: SimpleNamespace(test=("split", given), bad_files=())  # noqa: E731
    monkeypatch.setattr(sources, "load_fitted", split)
    found: Any = load_for_evaluation(
        tmp_path, settings, access=access, fitting=fitting, is_whole=is_whole
    )
    if is_unsplit:
        assert found == ("unsplit", (listing, settings, None, fitting))
    else:
        assert found == ("split", (tmp_path, settings, fitting, access))
    assert asked == [{"offline": True, "progress": None}]
    named: Any = load_for_evaluation("digits", settings)
    assert named == ("split", ("digits", settings, None, Access())) and len(asked) == 1
    with pytest.raises(UsageError, match="--offline"):
        load_for_evaluation("memory://x", settings, access=access)


def test_the_files_of_a_source_are_read_again_where_it_has_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(sources, "forget_copy", asked.append)
    monkeypatch.setattr(sources, "forget_files", asked.append)
    monkeypatch.setattr(sources, "list_source", lambda source: SimpleNamespace(paths=[source]))
    for source in ("digits", "memory://x", tmp_path):
        read_again(source)
    assert asked == ["memory://x", [tmp_path]]


def test_sources_are_named_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_source("S3://bucket/x/") == "s3://bucket/x"
    assert absolute_source("digits") == "digits"
    assert absolute_source("photos") == absolute_source(Path("photos")) == str(tmp_path / "photos")
    assert absolute_source(Path("digits")) == str(tmp_path / "digits")
    assert source_name("/") == "images"
    assert source_name("memory://shop/photos.tar") == "photos"
    assert source_name("flowers/x-{0..3}.tar") == "flowers"


def test_built_in_sources_ask_for_what_their_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, test, asked = few(40), few(6), []
    folder = tmp_path / "cifar"

    def find(place: object, **options: object) -> Path:
        asked.append((place, options))
        return folder

    monkeypatch.setattr(sources, "find_cifar", find)
    monkeypatch.setattr(sources, "read_cifar", lambda place: (images, test))
    settings = DataSettings(validation_fraction=0.25)
    splits = load_splits("cifar10", settings, data_dir=tmp_path, offline=True)
    assert asked == [(tmp_path, {"offline": True, "progress": None})]
    assert sorted([*splits.train.ids, *splits.validation.ids]) == sorted(images.ids)
    assert len(splits.validation) == 8 and splits.test is test
    quarter = percentage(0.25, 0)
    assert splits.notes == (
        f"{quarter} of the 50,000 were held out for validation; test is the official test set.",
    )
    again = load_splits("cifar10", DataSettings(validation_fraction=0.25, split_seed=1))
    assert set(again.validation.ids) != set(splits.validation.ids)
    digits = load_splits("digits", DataSettings(test_fraction=0.5, validation_fraction=0.1))
    half, tenth = percentage(0.5, 0), percentage(0.1, 0)
    assert digits.notes == (
        f"{half} of the images were held out for test and {tenth} of the rest for validation, by "
        "a hash of their ids.",
    )
    assert 850 < len(digits.test) < 950 and 70 < len(digits.validation) < 110


def test_shapes_are_made_at_their_own_size_or_a_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int, int]] = []

    def make(split: str, count: int, *, size: int) -> ImageSet:
        made.append((split, count, size))
        return few()

    monkeypatch.setattr(sources, "make_shapes", make)
    monkeypatch.setattr(sources, "make_multi_shapes", make)
    for size, single, several in ((None, 32, 40), (8, 32, 40), (200, 200, 200)):
        made.clear()
        sources._shapes(DataSettings(image_size=size), Access())
        sources._multi_shapes(DataSettings(image_size=size), Access())
        assert made == [
            ("train", 5000, single),
            ("validation", 1000, single),
            ("test", 1000, single),
            ("train", 4000, several),
            ("validation", 1000, several),
            ("test", 1000, several),
        ]


def test_joined_images_are_those_of_the_first_and_then_of_the_second() -> None:
    first, second = few(3, masks=True), few(2, masks=True)
    joined = sources._concatenate(first, second)
    assert joined.ids.tolist() == [*first.ids, *second.ids]
    assert joined.targets.tolist() == [0, 1, 0, 0, 1]
    assert np.array_equal(joined.pixels[3:], second.pixels)
    assert joined.masks is not None and first.masks is not None and second.masks is not None
    assert np.array_equal(joined.masks[:3], first.masks)
    assert np.array_equal(joined.masks[3:], second.masks)
    assert sources._concatenate(few(3), few(2)).masks is None


def test_images_are_brought_to_the_size_of_a_fitting_and_masks_only_to_whole_squares() -> None:
    images = few(2, masks=True)
    splits = Splits(images, few(3), few(1))
    for size in (None, 8):
        assert sources._resized(splits, DataSettings(image_size=size), None) is splits
    wide = Fitting(2, 3, "stretch")
    resized = sources._resized(splits, DataSettings(image_size=4), wide)
    assert [len(s) for s in (resized.train, resized.validation, resized.test)] == [2, 3, 1]
    assert resized.train.pixels.shape == (2, 3, 2, 3) and resized.train.masks is None
    for image, before in zip(resized.train.pixels, images.pixels, strict=True):
        assert np.array_equal(image, fit(before.transpose(1, 2, 0), wide))
    square = sources._resized(splits, DataSettings(image_size=4), None)
    assert square.train.masks is not None and images.masks is not None
    assert square.train.pixels.shape == (2, 3, 4, 4) and square.test.masks is None
    covered = images.masks.reshape(2, 4, 2, 4, 2).sum(axis=(2, 4))
    assert np.array_equal(square.train.masks, covered >= 2)
    cropped = sources._resize(images, Fitting(4, 4, crop_fraction=0.5))
    assert cropped.masks is None


def test_a_mask_covers_what_is_covered_by_half_or_more() -> None:
    for rows, expected in (([[1, 1], [0, 0]], True), ([[1, 0], [0, 0]], False)):
        mask = np.array(rows, bool)
        assert sources._resize_mask(mask, 1).tolist() == [[expected]]
        assert sources._resize_mask(mask, 2).tolist() == mask.tolist()


def test_square_images_are_resized_alike_in_every_way_that_settings_name() -> None:
    assert load_splits("digits", DataSettings(train_limit=10)).resize == "crop"
    assert (
        load_splits("digits", DataSettings(train_limit=10, resize="letterbox")).resize
        == "letterbox"
    )


@pytest.mark.parametrize("split", ["", "test/"])
def test_what_an_evaluation_leaves_out_is_a_warning(tmp_path: Path, split: str) -> None:
    root = write_folder(tmp_path / "images", {f"{split}cat": 2, f"{split}dog": 2})
    settings = DataSettings(image_size=8, on_bad_file="skip")
    assert len(load_for_evaluation(root, settings)) == 4
    (root / split / "cat" / "scan").write_bytes(b"")
    (root / split / "dog" / "000.png").write_bytes(b"")
    words = (
        r"extension of an image was ignored: .*scan\. 1 file cannot be read: .*\(the file is empty"
    )
    with pytest.warns(GlasshouseWarning, match=words):
        assert len(load_for_evaluation(root, settings)) == 3


def test_what_is_left_out_of_the_other_splits_is_a_warning_as_well(tmp_path: Path) -> None:
    root = write_folder(
        tmp_path / "images", {f"{way}/{name}": 3 for way in ("train", "test") for name in "ab"}
    )
    (root / "train" / "a" / "scan").write_bytes(b"")
    with pytest.warns(GlasshouseWarning, match=r"ignored: train/a/scan\.$"):
        assert len(load_for_evaluation(root, DataSettings(image_size=8))) == 6


def test_shards_say_what_they_leave_out(tmp_path: Path) -> None:
    files = {f"{way}/{name}/1.png": b"x" for way in ("train", "val", "test") for name in "ab"}
    write_tar(tmp_path / "a.tar", {**files, "logo.png": b"x"})
    write_folder(tmp_path / "other", {"a": 1})
    left_out = list_source(tmp_path).left_out
    assert [words.partition(":")[0] for words in left_out] == [
        "1 image file next to .tar files, which have most of the bytes, was left out",
        "1 image next to the splits was left out",
    ]
