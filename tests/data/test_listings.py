"""The same images give the same splits however they are packed, and what is wrong is named."""

import random
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import pytest

from glasshouse.data.file_splits import load_files
from glasshouse.data.images import Splits
from glasshouse.data.listings import list_source
from glasshouse.data.remote_store import RemoteStore
from glasshouse.data.shards import as_shards
from glasshouse.data.sources import (
    absolute_source,
    fingerprint,
    is_multi_label,
    load_for_evaluation,
    load_splits,
    source_name,
)
from glasshouse.errors import DataError, UnreadableFiles, UsageError
from glasshouse.settings import DataSettings
from tests.data.image_files import encoded, write_folder
from tests.data.shard_files import FEATURES, NAMES, images_below, write_parquet, write_tar

SETTINGS = DataSettings(image_size=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "folder", {"ant": 50, "bee": 45})


@pytest.fixture
def images(folder: Path) -> dict[str, bytes]:
    """In another order than that of the folder, as shards are shuffled."""
    found = list(images_below(folder).items())
    random.Random(0).shuffle(found)
    return dict(found)


def loaded(source: str | Path, **options: Any) -> Splits:
    return load_splits(source, SETTINGS, **options)


def part(images: dict[str, bytes], number: int, of: int) -> dict[str, bytes]:
    return dict(list(images.items())[number::of])


def with_cls(images: dict[str, bytes]) -> dict[str, bytes]:
    """As WebDataset writes them: the label in a file of its own."""
    found = {}
    for number, (name, data) in enumerate(images.items()):
        found[f"{number:06d}.png"] = data
        found[f"{number:06d}.cls"] = str(NAMES.index(name.partition("/")[0])).encode()
    return found


def test_parquet_files_give_the_bytes_of_the_folder(
    tmp_path: Path, folder: Path, images: dict[str, bytes]
) -> None:
    for number in range(2):
        write_parquet(tmp_path / "p" / f"part-{number}.parquet", part(images, number, 2))
    found = loaded(tmp_path / "p")
    assert fingerprint(found) == fingerprint(loaded(folder))
    assert found.train.ids[0].startswith("ant/")


def test_one_parquet_file_is_a_source(
    tmp_path: Path, folder: Path, images: dict[str, bytes]
) -> None:
    path = write_parquet(tmp_path / "all.parquet", images)
    assert fingerprint(loaded(str(path))) == fingerprint(loaded(folder))


@pytest.mark.parametrize("kind", ["binary", "large_binary", "binary_view", "dictionary"])
@pytest.mark.parametrize("is_in_structure", [False, True], ids=["column", "structure"])
def test_bytes_of_every_type_are_images(
    kind: str, is_in_structure: bool, tmp_path: Path, images: dict[str, bytes]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    few = part(images, 0, 3)
    types = {"dictionary": pa.dictionary(pa.int32(), pa.binary())}
    cells = pa.array(list(few.values()), types.get(kind) or getattr(pa, kind)())
    if is_in_structure:
        cells = pa.StructArray.from_arrays([cells], ["bytes"])
    labels = [name.partition("/")[0] for name in few]
    table = pa.table({"image": cells, "path": list(few), "label": labels})
    try:
        pq.write_table(table, tmp_path / "a.parquet")
    except pa.ArrowNotImplementedError:
        pytest.skip(f"this version of pyarrow writes no columns of type {kind}")

    listing = list_source(tmp_path / "a.parquet")
    read = [file.open().read() for file in listing.paths]
    assert dict(zip(listing.ids, read, strict=True)) == few
    names = [listing.class_names[label] for label in listing.targets]
    assert dict(zip(listing.ids, names, strict=True)) == dict(zip(few, labels, strict=True))


def test_tars_with_class_folders_give_the_bytes_of_the_folder(
    tmp_path: Path, folder: Path, images: dict[str, bytes]
) -> None:
    for number in range(3):
        write_tar(tmp_path / "t" / f"{number:03d}.tar", part(images, number, 3))
    expected = fingerprint(loaded(folder))
    assert fingerprint(loaded(tmp_path / "t")) == expected
    assert fingerprint(loaded(f"{tmp_path}/t/{{000..002}}.tar")) == expected
    inside = {f"./photos/{name}": data for name, data in images.items()}
    whole = loaded(write_tar(tmp_path / "one.tar", inside))
    assert whole.train.class_names == NAMES


def test_a_cls_file_is_the_label_of_the_image_of_its_name(
    tmp_path: Path, images: dict[str, bytes]
) -> None:
    listing = list_source(write_tar(tmp_path / "a.tar", with_cls(images)))
    assert listing.class_names == ("0", "1")
    expected = [NAMES.index(name.partition("/")[0]) for name in images]
    assert listing.targets.tolist() == expected
    assert listing.ids.tolist() == [f"{n:06d}.png" for n in range(len(images))]


def test_names_that_repeat_in_other_shards_get_the_name_of_theirs(
    tmp_path: Path, images: dict[str, bytes]
) -> None:
    for number in range(2):
        write_tar(tmp_path / "t" / f"{number}.tar", with_cls(part(images, number, 2)))
    ids = list_source(tmp_path / "t").ids.tolist()
    assert len(set(ids)) == len(images)
    assert ids[0] == "0.tar/000000.png"


def test_splits_in_the_names_of_shards_are_used(tmp_path: Path, images: dict[str, bytes]) -> None:
    data = tmp_path / "p" / "data"
    write_parquet(data / "train-00000-of-00001.parquet", part(images, 0, 3))
    write_parquet(data / "test-00000-of-00001.parquet", part(images, 1, 3))
    write_parquet(data / "extra-00000-of-00001.parquet", part(images, 2, 3))
    found = loaded(tmp_path / "p")
    assert set(found.test.ids) == set(part(images, 1, 3))
    assert not set(found.train.ids) & set(part(images, 2, 3))
    assert any("extra-00000-of-00001.parquet" in note for note in found.notes)


def test_a_column_says_the_split_of_each_row(tmp_path: Path, images: dict[str, bytes]) -> None:
    split = ["test" if n % 3 == 0 else "train" for n in range(len(images))]
    path = write_parquet(tmp_path / "a.parquet", images, split=split)
    assert set(loaded(path).test.ids) == set(part(images, 0, 3))


def test_a_split_whose_labels_are_withheld_is_left_out(
    tmp_path: Path, images: dict[str, bytes]
) -> None:
    write_parquet(tmp_path / "p" / "train.parquet", part(images, 0, 2))
    hidden = part(images, 1, 2)
    write_parquet(tmp_path / "p" / "test.parquet", hidden, [-1] * len(hidden))
    found = loaded(tmp_path / "p")
    assert not set(found.test.ids) & set(hidden)
    assert any("no labels and was left out" in note for note in found.notes)


def test_classes_have_the_order_that_the_schema_declares(
    tmp_path: Path, images: dict[str, bytes]
) -> None:
    features = {**FEATURES, "label": {"names": ["bee", "ant"], "_type": "ClassLabel"}}
    labels = [1 - NAMES.index(name.partition("/")[0]) for name in images]
    listing = list_source(write_parquet(tmp_path / "a.parquet", images, labels, features))
    assert listing.class_names == ("bee", "ant")
    named = [listing.class_names[n] for n in listing.targets.tolist()]
    assert named == [name.partition("/")[0] for name in listing.ids.tolist()]


def test_a_list_of_labels_means_several_per_image(tmp_path: Path, images: dict[str, bytes]) -> None:
    several = [[0], [0, 1], []] * 40
    features = {**FEATURES, "label": {"feature": FEATURES["label"], "_type": "Sequence"}}
    path = write_parquet(tmp_path / "a.parquet", images, several[: len(images)], features)
    assert is_multi_label(path)
    listing = list_source(path)
    position = listing.ids.tolist().index(list(images)[1])
    assert listing.targets[position].tolist() == [True, True]


def test_names_as_labels_need_no_declaration(tmp_path: Path, images: dict[str, bytes]) -> None:
    labels = [name.partition("/")[0] for name in images]
    assert list_source(
        write_parquet(tmp_path / "a.parquet", images, labels, None)
    ).class_names == tuple(NAMES)


def test_a_second_time_nothing_is_decoded(
    tmp_path: Path, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_parquet(tmp_path / "a.parquet", images), write_tar(tmp_path / "a.tar", images)
    first = [fingerprint(loaded(path)) for path in paths]
    monkeypatch.setattr("glasshouse.data.cache.decode_files", None)
    assert [fingerprint(loaded(path)) for path in paths] == first
    # Written anew, it is read again.
    write_tar(paths[1], dict(list(images.items())[5:]))
    with pytest.raises(TypeError):
        loaded(paths[1])


@pytest.mark.parametrize("write", [write_tar, write_parquet], ids=["tar", "parquet"])
def test_a_shard_that_is_replaced_after_its_labels_were_read_is_an_error(
    write: Any, tmp_path: Path, images: dict[str, bytes]
) -> None:
    path = tmp_path / ("a.tar" if write is write_tar else "a.parquet")
    # Of the same size, in other places.
    other = dict(zip(images, reversed(images.values()), strict=True))
    for is_moved, is_cached in ((False, False), (True, False), (False, True), (True, True)):
        listing = list_source(write(path, images))
        if is_moved:
            write(path.with_name("new"), other).replace(path)
        else:
            write(path, other)
        if is_cached:
            loaded(path)
        words = f"{path} changed while it was read: repeat the command"
        with pytest.raises(DataError, match=words):
            load_files(listing, SETTINGS)
        with pytest.raises(DataError, match=words):
            listing.paths[0].open()
        assert len(loaded(path).train)


def test_a_remote_shard_that_is_replaced_is_named_by_its_address(
    tmp_path: Path, images: dict[str, bytes]
) -> None:
    address = "memory://replaced/a.tar"
    fs = fsspec.filesystem("memory")
    fs.put(str(write_tar(tmp_path / "a.tar", images)), "/replaced/a.tar")
    listing = list_source(address)
    fs.put(str(write_tar(tmp_path / "a.tar", part(images, 0, 2))), "/replaced/a.tar")
    list_source(address)
    with pytest.raises(DataError, match=r"^memory://replaced/a\.tar.* changed while it was read"):
        load_files(listing, SETTINGS)


def test_damaged_images_in_shards_are_named(tmp_path: Path, images: dict[str, bytes]) -> None:
    name = list(images)[3]
    for path in (
        write_tar(tmp_path / "a.tar", {**images, name: b"no image"}),
        write_parquet(tmp_path / "a.parquet", {**images, name: b"no image"}),
    ):
        with pytest.raises(UnreadableFiles, match="1 of 95") as error:
            loaded(path)
        assert name in str(error.value)
        skipped = load_splits(path, SETTINGS.model_copy(update={"on_bad_file": "skip"}))
        assert sum(map(len, (skipped.train, skipped.validation, skipped.test))) == 94


def test_a_cell_without_bytes_is_a_bad_file(tmp_path: Path, images: dict[str, bytes]) -> None:
    name = next(iter(images))
    with pytest.raises(UnreadableFiles, match="no bytes"):
        loaded(write_parquet(tmp_path / "a.parquet", {**images, name: b""}))


def test_a_parquet_file_without_images_is_an_error(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="without images"):
        loaded(tmp_path)


def test_values_in_a_parquet_file_next_to_class_folders_are_no_images(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_folder(tmp_path, {"ant": 1, "bee": 1})
    pq.write_table(pa.table({"value": list(range(2000))}), tmp_path / "features.parquet")
    listing = list_source(tmp_path)
    assert listing.class_names == ("ant", "bee")
    assert listing.notes == (
        "1 file without the extension of an image was ignored: features.parquet.",
    )


def test_class_folders_next_to_larger_values_at_an_address_are_fetched_once(
    tmp_path: Path, folder: Path, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = list(range(len(b"".join(images.values()))))
    pq.write_table(pa.table({"value": values}), tmp_path / "features.parquet")
    fs = fsspec.filesystem("memory")
    fs.put(str(tmp_path / "features.parquet"), "/mixed/features.parquet")
    for name, data in images.items():
        fs.pipe_file(f"/mixed/{name}", data)
    found = loaded("memory://mixed")
    assert fingerprint(found) == fingerprint(loaded(folder))
    monkeypatch.setattr(RemoteStore, "read", None)
    assert fingerprint(loaded("memory://mixed")) == fingerprint(found)


def test_of_parquet_files_at_an_address_that_have_images_nothing_else_is_fetched(
    tmp_path: Path, images: dict[str, bytes]
) -> None:
    fs = fsspec.filesystem("memory")
    fs.put(str(write_parquet(tmp_path / "a.parquet", images)), "/beside/a.parquet")
    for name in ("readme/logo.png", ".hidden/logo.png"):
        fs.pipe_file(f"/beside/{name}", images[next(iter(images))])
    for _ in range(2):
        listing = list_source("memory://beside")
        assert len(listing.paths) == len(images) and listing.copy is not None
        assert not (listing.copy.folder / "readme" / "logo.png").stat().st_size


def test_images_next_to_shards_with_more_bytes_are_left_out_and_named(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ant": 1, "bee": 1})
    write_tar(tmp_path / "a.tar", {"cat/1.png": bytes(9000), "dog/1.png": bytes(9000)})
    listing = list_source(tmp_path)
    assert listing.class_names == ("cat", "dog")
    assert listing.notes == (
        "2 image files next to .tar files, which have most of the bytes, were left out: "
        "ant/000.png, bee/000.png.",
    )


def test_a_parquet_file_without_labels_is_an_error(
    tmp_path: Path, images: dict[str, bytes]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": list(images.values())}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no labels: expected a column named label"):
        loaded(tmp_path / "a.parquet")


@pytest.mark.parametrize("labels", [[0, None], [0, 7], [0, -1], ["ant", "fly"]])
def test_a_label_that_is_missing_or_not_declared_is_an_error(
    tmp_path: Path, images: dict[str, bytes], labels: list[Any]
) -> None:
    two = dict(list(images.items())[:2])
    with pytest.raises(DataError, match=r"row 2|no label"):
        loaded(write_parquet(tmp_path / "a.parquet", two, labels))


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_a_truncated_shard_is_an_error_wherever_it_ends(
    tmp_path: Path, images: dict[str, bytes], kept: float
) -> None:
    for path in (
        write_tar(tmp_path / "a.tar", images),
        write_parquet(tmp_path / "a.parquet", images),
    ):
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * kept)])
        with pytest.raises(DataError, match="truncated"):
            loaded(path)


def test_a_tar_cut_off_between_two_members_is_truncated(
    tmp_path: Path, images: dict[str, bytes]
) -> None:
    path = write_tar(tmp_path / "a.tar", images)
    whole = path.read_bytes()
    # A member is a block for its header and whole blocks for its bytes.
    first = 512 + -(-len(next(iter(images.values()))) // 512) * 512
    path.write_bytes(whole[:first])
    with pytest.raises(DataError, match="empty blocks that close a tar"):
        loaded(path)
    path.write_bytes(whole[:first] + b"x" * 512 + whole[first:])
    with pytest.raises(DataError, match="damaged: no member begins at byte"):
        loaded(path)
    path.write_bytes(whole + whole)
    with pytest.raises(DataError, match="joined tar files"):
        loaded(path)


def test_images_without_a_label_in_a_tar_are_named(
    tmp_path: Path, images: dict[str, bytes]
) -> None:
    files = with_cls(images)
    del files["000004.cls"]
    with pytest.raises(DataError, match=r"1 of 95 images without a \.cls file: .*000004\.png"):
        loaded(write_tar(tmp_path / "a.tar", files))
    loose = {name.replace("/", "-"): data for name, data in images.items()}
    with pytest.raises(DataError, match=r"neither a \.cls file nor a class folder"):
        loaded(write_tar(tmp_path / "b.tar", loose))


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (b"x" * 5000, r"a\.cls has 5,000 bytes: expected a class number or name"),
        (b"\xff", r"a\.cls is not UTF-8 text: expected"),
        (b" \n", r"a\.cls has no label: expected"),
    ],
)
def test_a_label_in_a_tar_that_is_none_is_named(tmp_path: Path, cls: bytes, words: str) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.png": encoded("PNG"), "a.cls": cls})
    with pytest.raises(DataError, match=words):
        loaded(path)


def test_a_tar_without_images_and_one_with_a_name_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.tar has no images in 1 tar file: expected NAME\.jpg"):
        loaded(write_tar(tmp_path / "a.tar", {"a.txt": b"x", ".hidden.png": encoded("PNG")}))
    path = write_tar(tmp_path / "b.tar", {"ant/a.png": encoded("PNG")})
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("./ant/a.png")
        archive.addfile(info)
    with pytest.raises(DataError, match=r"b\.tar/ant/a\.png occurs twice in its tar"):
        loaded(path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["ant", "ant"], "declares the class 'ant' 2 times"),
        (["ant", " ant "], "declares the class 'ant' 2 times"),
        (["ant", ""], "declares the class '"),
    ],
)
def test_classes_that_are_declared_twice_or_without_a_name_are_refused(
    tmp_path: Path, images: dict[str, bytes], names: list[str], words: str
) -> None:
    features = {**FEATURES, "label": {"names": names, "_type": "ClassLabel"}}
    with pytest.raises(DataError, match=words):
        loaded(write_parquet(tmp_path / "a.parquet", images, features=features))


def test_what_is_wrong_with_the_rows_of_a_parquet_file_is_named(
    tmp_path: Path, images: dict[str, bytes]
) -> None:
    two = dict(list(images.items())[:2])
    with pytest.raises(
        DataError, match=r"has labels such as 0\.5: expected whole numbers or names"
    ):
        loaded(write_parquet(tmp_path / "a.parquet", two, [0.5, 1.5], None))
    with pytest.raises(DataError, match=r"column split: unknown split 'tset'.* 'test'"):
        loaded(write_parquet(tmp_path / "b.parquet", two, split=["train", "tset"]))
    write_parquet(tmp_path / "c" / "0.parquet", two)
    write_parquet(tmp_path / "c" / "1.parquet", two, ["ant", "bee"], None)
    with pytest.raises(DataError, match=r"1\.parquet has other columns or classes than .*0\.parq"):
        loaded(tmp_path / "c")


def test_a_pattern_is_one_of_shards(tmp_path: Path) -> None:
    for name in ("0.zip", "1.zip"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"expected names that end in \.tar or \.parquet"):
        loaded(f"{tmp_path}/{{0..1}}.zip")


def test_two_versions_of_the_same_images_are_not_joined(
    tmp_path: Path, images: dict[str, bytes]
) -> None:
    write_parquet(tmp_path / "p" / "full" / "train.parquet", images)
    write_parquet(tmp_path / "p" / "small" / "train.parquet", part(images, 0, 2))
    with pytest.raises(DataError, match="full, small"):
        loaded(tmp_path / "p")
    assert len(list_source(tmp_path / "p" / "small").paths) == 48


def test_an_archive_has_to_be_unpacked(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/zipped/all.zip", b"x")
    with pytest.raises(DataError, match="unpack it"):
        loaded("memory://zipped")


def test_shards_that_are_missing_are_named(tmp_path: Path, images: dict[str, bytes]) -> None:
    write_tar(tmp_path / "0.tar", images)
    with pytest.raises(DataError, match=r"1 of the 2 files .*1\.tar"):
        loaded(f"{tmp_path}/{{0..1}}.tar")


def test_a_remote_folder_gives_the_bytes_of_the_folder(
    tmp_path: Path, folder: Path, images: dict[str, bytes]
) -> None:
    fs = fsspec.filesystem("memory")
    for name, data in images.items():
        fs.pipe_file(f"/remote/v1/{name}", data)
    found = loaded("memory://remote/v1/")
    assert fingerprint(found) == fingerprint(loaded(folder))
    write_parquet(tmp_path / "a.parquet", images)
    fs.put(str(tmp_path / "a.parquet"), "/remote/v2/data/a.parquet")
    assert fingerprint(loaded("memory://remote/v2")) == fingerprint(found)
    assert fingerprint(loaded("memory://remote/v2/data/a.parquet")) == fingerprint(found)
    for number in range(2):
        write_tar(tmp_path / f"{number}.tar", part(images, number, 2))
        fs.put(str(tmp_path / f"{number}.tar"), f"/remote/v3/{number}.tar")
    assert fingerprint(loaded("memory://remote/v3/{0..1}.tar")) == fingerprint(found)
    assert len(load_for_evaluation("memory://remote/v3", SETTINGS)) == len(images)
    assert len(list_source("memory://remote/v3/{0..1}.tar").paths) == len(images)


def test_what_is_wrong_with_a_remote_file_is_said_by_its_address(images: dict[str, bytes]) -> None:
    fs = fsspec.filesystem("memory")
    for name, data in images.items():
        fs.pipe_file(f"/odd/{name}", data)
    fs.pipe_file("/odd/ant/broken.png", b"no image")
    with pytest.raises(UnreadableFiles, match=r"memory://odd/ant/broken\.png"):
        loaded("memory://odd")
    fs.pipe_file("/one/ant/1.png", next(iter(images.values())))
    with pytest.raises(DataError, match="memory://one has only one class"):
        loaded("memory://one")
    fs.pipe_file("/none/readme.txt", b"x")
    with pytest.raises(DataError, match="memory://none has no images"):
        loaded("memory://none")


def test_addresses_are_sources_by_name(tmp_path: Path) -> None:
    assert absolute_source("s3://bucket/flowers/") == "s3://bucket/flowers"
    assert source_name("s3://bucket/flowers/") == "flowers"
    with pytest.raises(UsageError, match="--offline"):
        loaded("memory://remote", offline=True)
    with pytest.raises(UsageError, match="as text"):
        loaded(Path("s3://bucket/flowers"))
    with pytest.raises(UsageError, match="is a table"):
        loaded("memory://remote/table.csv")
    with pytest.raises(UsageError, match="holds a user name or password"):
        list_source("https://user:hushhush@host/table.csv")


@pytest.mark.parametrize(("count", "end"), [(5, ", e4."), (6, " and 1 more."), (8, " and 3 more.")])
def test_shards_of_no_split_are_named_up_to_five(count: int, end: str) -> None:
    names = ["train.tar", *(f"e{number}" for number in range(count))]
    used, (note,) = as_shards([Path(name) for name in names], names, "here")
    assert [shard.name for shard in used] == ["train.tar"]
    assert note.startswith(f"{count} files that are of no split were left out: e0, e1, e2, e3, e4")
    assert note.endswith(end)
