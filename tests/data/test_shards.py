"""Which files of a source are shards, of which split, and what is said of the others."""

from pathlib import Path

import pytest

from glasshouse.data.shards import as_shards, is_shard, layout_of
from glasshouse.errors import DataError

GB = 1 << 30


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        # A tie is for class folders, and then for tars.
        ({"a.tar": 5, "b.png": 5}, "class folders"), ({"a.tar": 6, "b.png": 5}, ".tar"),
        ({"a.parquet": 5, "b.png": 5}, "class folders"), ({"a.parquet": 6, "b.png": 5}, ".parquet"),
        ({"a.parquet": 5, "a.tar": 5}, ".tar"), ({"a.parquet": 6, "a.tar": 5}, ".parquet"),
        ({"a.tar": 2, "b.tar": 2, "c.png": 3}, ".tar"), ({"a.tar": 1, "b.png": 3}, "class folders"),
        # Files whose size is unknown count as one byte.
        ({"a.tar": 0}, ".tar"), ({"a.parquet": 0}, ".parquet"), ({"b.png": 0}, "class folders"),
        ({"a.tar": 1, "b.png": 0}, "class folders"), ({"a.tar": 0, "b.png": 1}, "class folders"),
        ({"a.tar": 0, "b.tar": 0, "c.png": 1}, ".tar"),
        ({"a.tar": 1, "b.png": 0, "c.png": 0}, "class folders"), ({"a.tar": 2, "b.png": 0}, ".tar"),
        ({".hidden/a.tar": 9, "b.png": 1}, "class folders"), ({"A.TAR": 9, "b.png": 1}, ".tar"),
        ({"a.zip": GB, "b.png": 1}, "class folders"), ({"a.txt": GB}, "class folders"),
    ],
)  # fmt: skip
def test_a_source_is_laid_out_as_most_of_its_bytes_are(files: dict[str, int], layout: str) -> None:
    assert layout_of(files.items(), "here") == layout


def test_archives_alone_are_refused() -> None:
    files = {"notes.txt": 9, "photos.TGZ": 5, "more.zip": 5, "more.tar.gz": 5}
    with pytest.raises(DataError, match=r"here has no images, but 3 archives such as photos\.TGZ:"):
        layout_of(files.items(), "here")


def test_shards_are_the_visible_files_of_the_layout() -> None:
    names = ["a.tar", "b/C.TAR", "a.parquet", "a.tar.gz", "z.zip", ".h.tar", "__MACOSX/a.tar", "x"]
    assert [name for name in names if is_shard(name, ".tar")] == ["a.tar", "b/C.TAR"]
    assert [name for name in names if is_shard(name, ".parquet")] == ["a.parquet"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00010.tar", "train"), ("x/TEST/a.tar", "test"), ("dev.tar", "validation"),
        # The name of a file comes before the folders that it is in, and the nearest of them first.
        ("train/val_1.tar", "validation"), ("val/train/a.tar", "train"), ("test/x/a.tar", "test"),
        ("trainer.tar", None), ("a-train.tar", None), ("a.tar", None),
    ],
)  # fmt: skip
def test_the_split_of_a_shard_is_in_its_name(name: str, split: str | None) -> None:
    ((shard,), notes) = as_shards([Path(name)], [name], "here")
    assert (shard.name, shard.path, shard.split, notes) == (name, Path(name), split, ())


def names_used(*names: str) -> tuple[list[str], tuple[str, ...]]:
    used, notes = as_shards([Path(name) for name in names], names, "here")
    return [shard.name for shard in used], notes


def test_shards_are_in_the_order_of_their_names_and_those_of_no_split_are_noted() -> None:
    assert names_used("b.tar", "a.tar") == (["a.tar", "b.tar"], ())
    # Each split may have a folder of its own.
    assert names_used("train.tar", "b/test.tar") == (["b/test.tar", "train.tar"], ())
    assert names_used("train/a.tar", "train.tar") == (["train/a.tar", "train.tar"], ())
    assert names_used("x.tar", "train.tar") == (
        ["train.tar"],
        ("1 file that is of no split was left out: x.tar.",),
    )
    assert names_used("x.tar", "y.tar", "train.tar") == (
        ["train.tar"],
        ("2 files that are of no split were left out: x.tar, y.tar.",),
    )


def test_splits_within_names_are_used_where_each_name_has_one_of_several() -> None:
    def splits(*names: str) -> tuple[dict[str, str | None], tuple[str, ...]]:
        used, notes = as_shards([Path(name) for name in names], names, "here")
        return {shard.name: shard.split for shard in used}, notes

    train, validation = "imagenet1k-train-0000.tar", "imagenet1k-validation-00.tar"
    assert splits(train, validation) == ({train: "train", validation: "validation"}, ())
    one = ("x/a.test.1.tar", "x/a_val_2.tar")
    assert splits(*one) == ({one[0]: "test", one[1]: "validation"}, ())
    # A word that all have may be part of the name of the data set.
    assert splits("my-test-1.tar", "my-test-2.tar")[1] == ()
    assert set(splits("my-test-1.tar", "my-test-2.tar")[0].values()) == {None}
    assert set(splits("a-training.tar", "b-trainer.tar")[0].values()) == {None}
    for others in (["imagenet1k-extra.tar"], ["a-train-val.tar", validation]):
        found, (note,) = splits(train, *others)
        assert set(found.values()) == {None} and len(found) == 1 + len(others)
        assert note.endswith("begin each name with its split, as in train-0000.tar.")
    note = splits(train, "imagenet1k-extra.tar")[1][0]
    assert note == (
        "1 of 2 file names has a word for a split (imagenet1k-train-0000.tar), but not each has "
        "exactly one, so that all files are read as one set. If they are splits, begin each name "
        "with its split, as in train-0000.tar."
    )
    # What a name begins with comes first.
    assert splits("train-val.tar", "a-test.tar")[0] == {"train-val.tar": "train"}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["b/x.tar", "a/y.tar"], r"\(a, b\), .* such as here/b$"),
        (["train.tar", "b/train.tar"], r"\(b, the folder itself\), .* such as here/b$"),
        (["test.tar", "a/train.tar", "b/train.tar"], r"\(a, b\), .* such as here/b$"),
        ([f"{n}/x.tar" for n in range(6)], r"\(0, 1, 2, 3, 4\), .* such as here/5$"),
    ],
)
def test_several_folders_of_one_split_are_refused(names: list[str], words: str) -> None:
    with pytest.raises(DataError, match=f"here has files of the same split in several .*{words}"):
        names_used(*names)
