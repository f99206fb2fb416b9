"""Labels, splits and ids of the images in tar shards, and where a shard ends."""

import tarfile
from pathlib import Path

import pytest

from glasshouse.data.embedded import TarMember
from glasshouse.data.file_splits import FileListing
from glasshouse.data.shards import Shard
from glasshouse.data.tar_shards import list_tars
from glasshouse.errors import DataError
from tests.data.shard_files import write_tar


def listed(folder: Path, *shards: dict[str, bytes], split: str | None = None) -> FileListing:
    """The listing of shards 0.tar, 1.tar and so on."""
    found = [
        Shard(write_tar(folder / f"{n}.tar", files), f"{n}.tar", split)  # type: ignore[arg-type]
        for n, files in enumerate(shards)
    ]
    return list_tars(found, folder)


def named(*names: str) -> dict[str, bytes]:
    return dict.fromkeys(names, b"x")


def labels_of(listing: FileListing) -> list[str]:
    return [listing.class_names[n] for n in listing.targets.tolist()]


def test_a_label_belongs_to_the_images_of_its_name_in_its_shard(tmp_path: Path) -> None:
    first = {"./a/1.left.png": b"x", "a/1.CLS": b" ant\n", "b/1.png": b"x", "b/1.cls": b"bee"}
    second = {"a/1.cls": b"cow", "a/1.png": b"xyz", "a/1.json": b"{}"}
    listing = listed(tmp_path, first, second, split="test")
    assert listing.ids.tolist() == ["a/1.left.png", "b/1.png", "a/1.png"]
    assert labels_of(listing) == ["ant", "bee", "cow"]
    assert listing.given_splits == ("test",) * 3
    # The offset in blocks of 512 bytes: a header, the label in a block, another header.
    assert listing.paths[2] == TarMember(tmp_path / "1.tar", "a/1.png", 1536, 3)
    assert listing.notes == ()


def test_several_images_of_a_label_are_noted(tmp_path: Path) -> None:
    files = {"1.png": b"x", "1.cls": b"0", "1.mask.png": b"x", "2.png": b"x", "2.cls": b"1"}
    listing = listed(tmp_path, files)
    assert labels_of(listing) == ["0", "0", "1"]
    assert listing.notes == (
        "1 label of 2 is of several images, such as 1.png and 1.mask.png: each of them is an image "
        "of the class, also a mask, and they may be in different splits.",
    )


def test_names_that_occur_again_in_another_shard_have_its_name(tmp_path: Path) -> None:
    listing = listed(tmp_path, named("ant/1.png"), named("ant/1.png", "bee/1.png"))
    assert listing.ids.tolist() == ["0.tar/ant/1.png", "1.tar/ant/1.png", "1.tar/bee/1.png"]
    assert labels_of(listing) == ["ant", "ant", "bee"]
    assert listing.given_splits is None


@pytest.mark.parametrize(
    ("names", "labels", "splits"),
    [
        (["ant/1.png", "bee/2.png"], ["ant", "bee"], None),
        (["ant/1.png", "ant/2.png"], ["ant", "ant"], None),
        (["x/ant/1.png", "x/ant/2.png"], ["ant", "ant"], None),
        (["x/y/ant/1.png", "x/y/bee/2.png"], ["ant", "bee"], None),
        (["x/ant/1.png", "y/2.png"], ["x", "y"], None),
        (["train/ant/1.png", "TEST/ant/2.png"], ["ant", "ant"], ("train", "test")),
        (["x/val/ant/1.png", "x/train/bee/2.png"], ["ant", "bee"], ("validation", "train")),
        # Folders that are called like a split are classes where others are next to them.
        (["train/ant/1.png", "bus/2.png"], ["train", "bus"], None),
        (["train/ant/1.png", "bus/ant/2.png"], ["train", "bus"], None),
        (["train/1.png", "test/2.png"], ["train", "test"], None),
        # Splits within classes, and two data sets next to each other.
        (["a/train/x/1.png", "a/test/x/2.png", "b/3.png"], ["a", "a", "b"], None),
        (
            ["a/train/x/1.png", "a/val/x/1.png", "b/train/x/1.png", "b/val/x/2.png"],
            ["a", "a", "b", "b"],
            None,
        ),
    ],
)
def test_the_class_is_the_first_folder_that_says_something(
    tmp_path: Path, names: list[str], labels: list[str], splits: tuple[str, ...] | None
) -> None:
    listing = listed(tmp_path, named(*names))
    assert labels_of(listing) == labels
    assert listing.given_splits == splits


def test_a_shard_ends_with_an_empty_block_and_nothing_else(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", named("ant/1.png")).read_bytes()
    path = tmp_path / "a.tar"

    def count(data: bytes) -> int:
        path.write_bytes(data)
        return len(list_tars([Shard(path, "a.tar")], tmp_path).paths)

    assert count(whole[:1536]) == 1
    assert count(whole[:1024] + bytes(512 + (3 << 20))) == 1
    with pytest.raises(DataError, match=r"it ends without the empty blocks that close a tar\. C"):
        count(whole[:1535])
    with pytest.raises(DataError, match=r"no member begins at byte 1,024"):
        count(whole[:1024] + bytes(511) + b"x")
    for rest in (b"x", bytes(3 << 20) + b"x"):
        with pytest.raises(DataError, match=r"a\.tar has more after its end"):
            count(whole[:1536] + rest)
    path.unlink()
    with pytest.raises(DataError, match=r"cannot read .*a\.tar: No such file"):
        list_tars([Shard(path, "a.tar")], tmp_path)


def test_a_label_has_at_most_1024_bytes_and_is_none_that_stands_for_a_missing_one(
    tmp_path: Path,
) -> None:
    assert labels_of(listed(tmp_path, {"a.png": b"x", "a.cls": b"y" * 1024})) == ["y" * 1024]
    with pytest.raises(DataError, match=r"0\.tar: a\.cls has 1,025 bytes: expected a class"):
        listed(tmp_path, {"a.png": b"x", "a.cls": b"y" * 1025})
    with pytest.raises(DataError, match=r"0\.tar: a\.cls has no label: expected a class"):
        listed(tmp_path, {"a.png": b"x", "a.cls": b"NaN"})
    for text in (b"ant\nbee", b"0\r\n1\n"):
        with pytest.raises(
            DataError, match=r"0\.tar: a\.cls has several lines: expected one class"
        ):
            listed(tmp_path, {"a.png": b"x", "a.cls": text})


def test_minus_one_next_to_numbers_from_zero_on_is_no_label(tmp_path: Path) -> None:
    def files(*labels: str) -> dict[str, bytes]:
        names = named(*(f"{n}.png" for n in range(len(labels))))
        return {**names, **{f"{n}.cls": text.encode() for n, text in enumerate(labels)}}

    with pytest.raises(
        DataError,
        match=r"^1 of 4 images without a label, as their \.cls files say -1: .*0\.tar/2\.png$",
    ):
        listed(tmp_path, files("0", "1", "-1", "1"))
    for labels in (("-1", "1"), ("-1", "-2", "1"), ("-1", "ant", "bee")):
        assert set(labels_of(listed(tmp_path, files(*labels)))) == set(labels)


def test_up_to_five_images_without_a_label_are_named(tmp_path: Path) -> None:
    names = [f"{n}.png" for n in range(7)]
    shown = ", ".join(f"{tmp_path}/0.tar/{n}.png" for n in range(5))
    with pytest.raises(DataError) as error:
        listed(tmp_path, {**named(*names), "6.cls": b"ant"})
    assert str(error.value) == f"6 of 7 images without a .cls file: {shown}"
    with pytest.raises(DataError) as error:
        listed(tmp_path, named(*names, "ant/7.png"))
    assert str(error.value) == (
        f"{tmp_path}: 7 of 8 images with neither a .cls file nor a class folder: {shown}"
    )
    with pytest.raises(DataError, match="has no images in 2 tar files: expected"):
        listed(tmp_path, {"a.cls": b"ant"}, {"a.txt": b"x"})


def test_images_next_to_the_splits_are_left_out_and_named(tmp_path: Path) -> None:
    inside = ["d/train/ant/1.png", "d/test/ant/2.png"]
    others = ["logo.png", "d/logo.png", "d/train/logo.png", "d/samples/grid/1.png"]
    listing = listed(tmp_path, named(*inside, *others))
    assert listing.ids.tolist() == inside
    assert labels_of(listing) == ["ant", "ant"]
    assert listing.given_splits == ("train", "test")
    assert listing.notes == (
        "4 images next to the splits were left out: "
        "logo.png, d/logo.png, d/train/logo.png, d/samples/grid/1.png.",
    )


def test_names_with_a_dot_of_their_own_have_the_label_of_their_own(tmp_path: Path) -> None:
    files = {"ant.1.png": b"x", "ant.1.cls": b"0", "ant.2.png": b"x", "ant.2.cls": b"1",
             "b.left.png": b"x", "b.class.cls": b"2", "ant.2.left.png": b"x"}  # fmt: skip
    assert labels_of(listed(tmp_path, files)) == ["0", "1", "2", "1"]
    with pytest.raises(DataError, match=r"1 of 5 images without a \.cls file: .*ant\.3\.png"):
        listed(tmp_path, {**files, "ant.3.png": b"x", "b.left.png": b"x"})
    one = {"ant.1.png": b"x", "ant.1.cls": b"0", "ant.2.png": b"x"}
    with pytest.raises(DataError, match=r"1 of 2 images without a \.cls file: .*ant\.2\.png"):
        listed(tmp_path, one)


def test_a_second_name_of_a_file_has_its_content_and_other_links_are_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"./ant/1.png": b"xyz", "ant/2.png": b"x"})
    with tarfile.open(path, "a") as archive:
        for name, target, kind in (
            ("bee/1.png", "./ant/1.png", tarfile.LNKTYPE),
            ("bee/2.png", "bee/1.png", tarfile.LNKTYPE),
            ("bee/3.png", "elsewhere.png", tarfile.LNKTYPE),
            ("bee/4.png", "1.png", tarfile.SYMTYPE),
            ("bee/notes.txt", "1.png", tarfile.SYMTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    listing = list_tars([Shard(path, "a.tar")], tmp_path)
    assert labels_of(listing) == ["ant", "ant", "bee", "bee"]
    assert [file.read() for file in listing.paths] == [b"xyz", b"x", b"xyz", b"xyz"]  # type: ignore[union-attr]
    assert listing.notes == (
        "2 links to a file that is not before it in its tar were left out: bee/3.png, bee/4.png.",
    )


def test_images_with_a_cls_file_are_of_the_split_that_a_folder_is_named_after(
    tmp_path: Path,
) -> None:
    files = {"x/Train/1.png": b"x", "x/Train/1.cls": b"0", "x/val/a/2.png": b"x",
             "x/val/a/2.cls": b"1"}  # fmt: skip
    listing = listed(tmp_path, files)
    assert listing.given_splits == ("train", "validation")
    more = {"x/3.png": b"x", "x/3.cls": b"1"}
    listing = listed(tmp_path, files | more)
    assert listing.ids.tolist() == ["x/Train/1.png", "x/val/a/2.png"]
    assert listing.given_splits == ("train", "validation")
    assert listing.notes == ("1 image next to the splits was left out: x/3.png.",)
    one = {name: data for name, data in files.items() if "val" not in name} | more
    assert listed(tmp_path, one).given_splits is None
    assert listed(tmp_path, files, split="test").given_splits == ("test",) * 2


def test_a_byte_order_mark_is_no_part_of_a_label(tmp_path: Path) -> None:
    assert labels_of(listed(tmp_path, {"1.png": b"x", "1.cls": b"\xef\xbb\xbfant\r\n"})) == ["ant"]
