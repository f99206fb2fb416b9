"""Borders of reading data: what the tests of single sources have no reason to try."""

import io
import math
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glasshouse.data import parquet_pages
from glasshouse.data.arrays import bytes_hint
from glasshouse.data.bit_depth import _declared_bits
from glasshouse.data.cache_entry import EntryRecord, checksum_of, file_blocks, verified_survey
from glasshouse.data.dataset_labels import row_targets, row_values
from glasshouse.data.datasets import _column
from glasshouse.data.embedded import ImageFile, ParquetCell, TarMember, reading_order, sampled
from glasshouse.data.fitting import Fitting
from glasshouse.data.headers import _has_more_frames
from glasshouse.data.image_checks import resolution
from glasshouse.data.images import ImageSet, images_by_id, with_class_order
from glasshouse.data.parquet_columns import _names_of
from glasshouse.data.remote_store import RemoteStore
from glasshouse.data.shards import Shard
from glasshouse.data.sources import load_splits
from glasshouse.data.survey import survey
from glasshouse.data.tar_shards import list_tars
from glasshouse.errors import DataError, UsageError
from glasshouse.settings import DataSettings
from tests.data.image_files import encoded, scene
from tests.data.servers import Files, serving
from tests.data.shard_files import write_tar


def images_of(labels: list[int], names: tuple[str, ...] = ("a", "b")) -> ImageSet:
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] + np.zeros(
        (1, 3, 2, 2), np.uint8
    )
    ids = np.array([f"image {n}" for n in range(len(labels))])
    return ImageSet(pixels, np.array(labels), ids, names)


def test_images_are_found_by_their_ids_and_copied() -> None:
    images = images_of([0, 1, 0])
    found = images_by_id(images, iter(["image 2", "elsewhere", "image 0"]))
    assert {name: pixels.max() for name, pixels in found.items()} == {"image 0": 0, "image 2": 2}
    assert all(pixels.shape == (3, 2, 2) for pixels in found.values())
    assert not np.shares_memory(found["image 2"], images.pixels)


def test_images_get_another_order_of_classes_only_where_all_are_in_it() -> None:
    images = images_of([0, 1, 0])
    assert with_class_order(images, ("a", "b")) is images
    assert with_class_order(images, ("a", "c", "d")) is images
    moved = with_class_order(images, ["c", "b", "a"])
    assert moved.class_names == ("c", "b", "a") and moved.labels.tolist() == [2, 1, 2]


def write_classes(folder: Path, count: int) -> Path:
    for name in ("ant", "bee"):
        for number in range(count):
            path = folder / name / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded("PNG", Image.fromarray(scene(8, 8, number))))
    return folder


def test_a_limit_of_training_images_leaves_the_other_splits_alone(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "insects", 12)
    given: dict[str, Any] = {"image_size": 8}
    whole = load_splits(folder, DataSettings(**given))
    few = load_splits(folder, DataSettings(**given, train_limit=4))
    assert np.bincount(few.train.labels).tolist() == [2, 2]
    assert set(few.train.ids) < set(whole.train.ids)
    assert few.test.ids.tolist() == whole.test.ids.tolist()
    assert few.validation.ids.tolist() == whole.validation.ids.tolist()
    fewer = load_splits(folder, DataSettings(**given, train_limit=2))
    assert set(fewer.train.ids) < set(few.train.ids)
    other = load_splits(folder, DataSettings(**given, train_limit=4, split_seed=1))
    assert set(other.train.ids) != set(few.train.ids)


@pytest.mark.parametrize(
    ("feature", "names"),
    [
        ({"names": ["ant", 7]}, ["ant", "7"]),
        ([{"names": ["ant", "bee"]}], ["ant", "bee"]),
        ({"feature": {"names": ["ant"]}}, ["ant"]),
        ([{"names": ["ant"]}, {"names": ["bee"]}], None),
        ([], None),
        ({"names": []}, None),
        ({"names": "ant"}, None),
        ("ant", None),
    ],
)
def test_names_of_classes_are_read_where_one_feature_has_them(
    feature: object, names: list[str] | None
) -> None:
    assert _names_of(feature) == names


def test_images_in_containers_are_read_in_their_order_and_files_between_them() -> None:
    first = [TarMember(Path("b.tar"), "x.png", 900, 1), TarMember(Path("b.tar"), "y.png", 80, 1)]
    cells = [
        ParquetCell(Path("a.parquet"), "z", g, r, "image") for g, r in ((1, 0), (0, 7), (0, 2))
    ]
    files: list[ImageFile] = [*first, Path("aa.png"), *cells, Path("0.png")]
    order = reading_order(files)
    assert [str(files[n]) for n in order[:1]] == ["0.png"]
    assert order == [6, 5, 4, 3, 2, 1, 0]
    assert reading_order([Path("b.png"), Path("a.png")]) == [0, 1]
    assert first[0].__fspath__() == str(first[0]) == "b.tar/x.png"


def test_a_sample_is_spread_over_files_and_over_groups_of_rows() -> None:
    files = [Path(f"{n}.png") for n in range(10)]
    assert [path.name for path in sampled(files, 3)] == ["0.png", "3.png", "6.png", "9.png"]
    assert len(sampled(files, 99)) == 10
    cells = [
        ParquetCell(Path("a"), "", group, row, "image") for row in range(5) for group in (0, 1)
    ]
    chosen: Any = sampled(cells, 4)
    assert [cell.place for cell in chosen] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    chosen = sampled(cells, 1)
    assert [cell.place for cell in chosen] == [(0, 0), (1, 0)]


def test_a_folder_with_the_name_of_a_split_that_holds_all_classes_is_that_split(
    tmp_path: Path,
) -> None:
    png = encoded("PNG")
    names = ("set/train/ant/1.png", "set/train/bee/1.png", "set/train/bee/2.png")
    path = write_tar(tmp_path / "x.tar", dict.fromkeys(names, png))
    listing = list_tars([Shard(path, "x", None)], tmp_path)
    assert listing.class_names == ("ant", "bee")
    assert listing.given_splits == ("train",) * 3
    deep = ("set/ant/1.png", "set/bee/deeper/1.png")
    path = write_tar(tmp_path / "y.tar", dict.fromkeys(deep, png))
    listing = list_tars([Shard(path, "y", None)], tmp_path)
    assert listing.class_names == ("ant", "bee") and listing.given_splits is None
    path = write_tar(tmp_path / "z.tar", dict.fromkeys(("set/ant/1.png", "2.png"), png))
    with pytest.raises(DataError, match=r"1 of 2 images with neither a \.cls file nor a class"):
        list_tars([Shard(path, "z", None)], tmp_path)


def test_a_shard_on_a_web_server_is_a_file_and_a_folder_is_its_listing() -> None:
    page = b'<a href="my%20cat.png">x</a> <a href="sub/">y</a> <a href="my%20cat.png?C=N">z</a>'
    contents = {"/my%20shard.tar": b"abc", "/photos/": page, "/photos/my%20cat.png": b"abcd",
                "/photos/sub/": b""}  # fmt: skip
    with serving(Files(contents)) as address:
        store = RemoteStore(f"{address}/my%20shard.tar")
        (file,) = store.files()
        assert (file.name, file.size) == ("my shard.tar", 3)
        assert store.read(file) == b"abc"
        (file,) = RemoteStore(f"{address}/photos").files()
        assert (file.name, file.size) == ("my cat.png", 4)


@pytest.mark.parametrize(
    ("label", "expected"),
    [(3, 3), ([3], [3]), ([[3]], [3]), ("cat", "cat"), ([], []), ([0.0, 1.0], [0, 1]),
     (np.array([[2]]), [2]), (True, True)],
)  # fmt: skip
def test_labels_of_a_row_are_one_or_a_list(label: object, expected: object) -> None:
    assert row_values(label, "row 0").tolist() == expected


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ([[1], [2, 3]], "expected one label, a whole number or a name"),
        ([[1, 2], [3, 4]], "expected one label"),
        ([0.5, 1.0], "expected one label"),
        (0.5, "expected one label"),
        (None, "expected one label"),
        (-1, "row 0: the label is -1, which stands for a missing one"),
        ([3, -2], "the label is -2"),
    ],
)
def test_what_is_no_label_of_a_row_is_refused(label: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        row_values(label, "row 0")


def test_rows_of_0_and_1_are_vectors_unless_they_may_be_positions() -> None:
    def found(rows: list[list[int]], names: list[str] | None = None) -> list[list[bool]]:
        values = [np.array(row) for row in rows]
        labels: list[list[bool]] = row_targets(values, names, are_positions=False)[0].tolist()
        return labels

    assert found([[0, 1, 1], [1, 0, 0]]) == [[False, True, True], [True, False, False]]
    assert found([[1, 1], [0, 1]]) == [[True, True], [False, True]]
    # Two positions of three classes.
    assert found([[0, 1], [1, 0]], ["a", "b", "c"]) == [[True, True, False]] * 2
    with pytest.raises(DataError, match="may be two positions or a vector of two classes"):
        found([[0, 1], [1, 0]])
    with pytest.raises(DataError, match="may be two positions or a vector of two classes"):
        found([[0, 1], [1, 0]], ["a", "b"])
    with pytest.raises(DataError, match="row 1: expected different labels"):
        found([[0, 2], [2, 2]])
    none = [np.empty(0, np.int64)] * 2
    with pytest.raises(DataError, match="none of the rows has a label"):
        row_targets(none, None, are_positions=True)
    matrix, names = row_targets(none, ["a", "b"], are_positions=True)
    assert matrix.tolist() == [[False, False]] * 2 and names == ("a", "b")


def test_bits_are_those_that_a_tag_declares_and_none_of_a_damaged_one() -> None:
    def declared(bits: object) -> int:
        return _declared_bits(SimpleNamespace(tag_v2={258: bits}))  # type: ignore[arg-type]

    assert declared((12, 16, 8)) == 16 and declared(12) == 12
    assert declared("twelve") == 0 and declared(None) == 0
    assert _declared_bits(Image.new("L", (2, 2))) == 0


def test_an_image_whose_search_for_frames_fails_has_one() -> None:
    class Damaged:
        @property
        def is_animated(self) -> bool:
            raise OSError("damaged")

    assert not _has_more_frames(Damaged())  # type: ignore[arg-type]
    assert not _has_more_frames(SimpleNamespace())  # type: ignore[arg-type]
    assert _has_more_frames(SimpleNamespace(is_animated=True))  # type: ignore[arg-type]


def test_the_survey_of_an_entry_is_made_anew_from_pixels_that_are_right(tmp_path: Path) -> None:
    fitting = Fitting(height=4, width=4)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4)).astype(np.uint8)
    record = tmp_path / "x.json"
    entry = EntryRecord(["0"] * 5, checksum_of(iter([pixels.tobytes()])), "", "")
    assert verified_survey(record, entry, fitting) is None  # no pixels
    record.with_suffix(".pixels").write_bytes(pixels.tobytes())
    found = verified_survey(record, entry, fitting)
    assert found is not None
    np.testing.assert_array_equal(found.is_constant, survey(pixels).is_constant)
    assert record.is_file()
    assert verified_survey(record, entry._replace(crc32=entry.crc32 ^ 1), fitting) is None
    with record.with_suffix(".pixels").open("rb") as file:
        assert b"".join(file_blocks(file, 7)) == pixels.tobytes()


def test_a_hint_is_given_where_values_are_0_to_255_or_0_to_1() -> None:
    assert bytes_hint(np.array(["a"])) == bytes_hint(np.empty(0)) == ""
    assert "255 * pixels.astype('uint8')" in bytes_hint(np.array([True]))
    assert "(255 * pixels).round()" in bytes_hint(np.array([0.0, 1.0]))
    assert "use pixels.round().astype('uint8')" in bytes_hint(np.array([0.0, 1.1]))
    assert "use pixels.astype('uint8')" in bytes_hint(np.array([0, 255]))
    assert "pixels // 257" in bytes_hint(np.array([0, 256], np.uint16))
    for values in ([-0.1, 1.0], [0.0, 255.1]):
        assert f"values {values[0]:.4g} to {values[1]:.4g}" in bytes_hint(np.array(values))


def test_only_visible_files_of_a_tar_are_images(tmp_path: Path) -> None:
    png = encoded("PNG")
    names = ("ant/1.png", "bee/2.png", "bee/.hidden.png", ".cache/3.png")
    path = write_tar(tmp_path / "x.tar", dict.fromkeys(names, png))
    with tarfile.open(path, "a") as archive:
        for name, kind in (("ant/folder.png", tarfile.DIRTYPE), ("ant/link.png", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "1.png"
            archive.addfile(info)
    listing = list_tars([Shard(path, "x", None)], tmp_path)
    assert [member.name for member in listing.paths] == ["ant/1.png", "bee/2.png"]


def test_what_a_number_of_images_can_tell() -> None:
    one, many = resolution(1), resolution(1000, accuracy=0.9, disagreement=0.04)
    assert (one.alone, one.unpaired, one.paired) == pytest.approx(
        (1.96 * 0.4, 1.96 * math.sqrt(0.32), 1.96 * math.sqrt(0.1)), rel=1e-3
    )
    assert (many.alone, many.unpaired, many.paired) == pytest.approx(
        (1.96 * 0.3 / 1000**0.5, 1.96 * math.sqrt(0.18 / 1000), 1.96 * math.sqrt(0.04 / 1000)),
        rel=1e-3,
    )
    assert resolution(0) == one


def test_a_header_of_a_page_ends_within_its_bound() -> None:
    # A binary field of a length that ends at the bound, or one byte behind it.
    bound = parquet_pages._MOST_HEADER_BYTES
    assert bound == 16 * 1024 * 1024
    for length, is_read in ((bound - 5, True), (bound - 4, False)):
        number, encoded_length = length, b""
        while number > 127:
            encoded_length += bytes([number & 127 | 128])
            number >>= 7
        file = io.BytesIO(bytes([0x18]) + encoded_length + bytes([number]))
        if is_read:
            # It is read up to there, where the file has no more.
            with pytest.raises(ValueError, match="is cut off"):
                parquet_pages._struct(file, bound)
        else:
            with pytest.raises(ValueError, match="is too large"):
                parquet_pages._struct(file, bound)


def test_of_several_usual_columns_the_one_of_the_plain_name_is_taken() -> None:
    row = {"img": 1, "image": 2, "fine": 3}
    assert _column(row, {}, "Image", ("image", "img"), "image") == "image"
    assert _column(row, {"fine": "Image"}, "Image", ("image", "img"), "image") == "fine"
    assert _column({"img": 1}, {}, "Image", ("image", "img"), "image") == "img"
    with pytest.raises(UsageError, match="which column is the image"):
        _column(row, {}, "Image", ("img", "image"), "image")
