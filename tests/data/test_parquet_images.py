"""Which columns of a Parquet file are the images and the labels."""

import random
from pathlib import Path
from typing import Any

import pytest

from glasshouse.data import embedded
from glasshouse.data.embedded import ParquetCell
from glasshouse.data.file_splits import FileListing
from glasshouse.data.listings import list_source
from glasshouse.data.parquet_columns import _chosen, image_candidates, image_columns
from glasshouse.errors import BadImage, DataError
from tests.data.shard_files import write_parquet

pa = pytest.importorskip("pyarrow")


@pytest.mark.parametrize("names", [["img", "image"], ["image", "img"], ["thumb", "IMAGE"]])
def test_of_several_columns_with_images_the_one_with_the_usual_name_is_read(
    names: list[str],
) -> None:
    schema = pa.schema([*((name, pa.binary()) for name in names), ("label", pa.int64())])
    assert image_columns(Path("a.parquet"), schema).image.lower() == "image"


def test_bytes_within_a_structure_are_images_unless_they_are_text() -> None:
    kinds = {"a": pa.large_binary(), "b": pa.string()}
    fields = [(name, pa.struct([("bytes", kind)])) for name, kind in kinds.items()]
    assert image_candidates(pa.schema(fields)) == ["a.bytes"]


def test_a_declared_column_comes_before_a_usual_name() -> None:
    usual = ("image", "img")
    where = (Path("a.parquet"), "images")
    assert _chosen(*where, ["image", "scan.bytes"], usual, ["scan"]) == "scan.bytes"
    assert _chosen(*where, ["scan"], usual, []) == "scan"
    with pytest.raises(DataError, match=r"several columns of images \(left, right\): name the one"):
        _chosen(*where, ["left", "right"], usual, [])


@pytest.mark.parametrize("names", [["fine_label", "label"], ["cls", "Target"]])
def test_the_labels_are_the_column_with_the_first_of_the_usual_names(names: list[str]) -> None:
    schema = pa.schema([("image", pa.binary()), *((name, pa.int64()) for name in names)])
    assert image_columns(Path("a.parquet"), schema).label == names[1]


def cells_of(path: Path, rows: int, group_size: int) -> list[ParquetCell]:
    """The cells of a file whose image n has the bytes b"n", all but every seventh."""
    images = [{"bytes": None if n % 7 == 6 else b"%d" % n, "path": f"{n}"} for n in range(rows)]
    table = pa.table({"image": images, "label": [n % 2 for n in range(rows)]})
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(table, path, row_group_size=group_size)
    return [
        ParquetCell(path, f"row {n + 1}", n // group_size, n % group_size, "image.bytes")
        for n in range(rows)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_cells_have_their_bytes_in_whatever_order_they_are_read(tmp_path: Path, seed: int) -> None:
    # Blocks of 32 rows, of which two are kept; in three groups, of which the last two are.
    cells = cells_of(tmp_path / "a.parquet", 300, 130)
    order = list(range(300))
    if seed:
        random.Random(seed).shuffle(order)
    for number in order[:150] if seed else [*order, 129, 0, 31, 32, 64, 96, 95, 31, 260, 261, 0]:
        if number % 7 == 6:
            with pytest.raises(BadImage, match=f"row {number + 1}: the cell has no bytes"):
                cells[number].read()
        else:
            assert cells[number].read() == b"%d" % number
            assert cells[number].open().read() == b"%d" % number


def test_a_few_rows_are_in_memory_however_many_there_are(tmp_path: Path) -> None:
    cells = cells_of(tmp_path / "a.parquet", 300, 300)
    reader = embedded._reader(cells[0])
    for cell in cells:
        assert reader.row(cell.row) == (None if cell.row % 7 == 6 else b"%d" % cell.row)
        assert len(reader.rows) <= 64
        assert reader.start <= cell.row < reader.start + len(reader.rows)
    # The readers of two groups are kept.
    other = cells_of(tmp_path / "b.parquet", 30, 10)
    for cell in (other[0], other[10], other[21]):
        cell.read()
    kept = {(key[0].name, key[2]) for key in embedded._readers}
    assert kept == {("b.parquet", 1), ("b.parquet", 2)}
    assert embedded._reader(other[10]) is embedded._reader(other[11])


def test_files_are_read_in_the_order_in_which_they_are_stored(tmp_path: Path) -> None:
    cells: list[Any] = cells_of(tmp_path / "b.parquet", 6, 3)
    others: list[Any] = cells_of(tmp_path / "a.parquet", 2, 2)
    files = [cells[4], others[1], cells[0], cells[3], others[0]]
    assert embedded.reading_order(files) == [4, 1, 2, 3, 0]
    paths = [tmp_path / "z", tmp_path / "a"]
    assert embedded.reading_order(paths) == [0, 1]
    mixed = [tmp_path / "z", cells[0], tmp_path / "c"]
    assert embedded.reading_order(mixed) == [1, 2, 0]
    tars = [embedded.TarMember(tmp_path / "t.tar", "x", offset, 9) for offset in (1024, 512)]
    assert embedded.reading_order(tars) == [1, 0]


@pytest.mark.parametrize(
    ("count", "groups", "taken"),
    [
        # All of some groups' first rows: of twenty groups at most, about as many in each.
        (6, 5, [0, 10, 20, 30, 40]),
        (10, 5, [0, 1, 10, 11, 20, 21, 30, 31, 40, 41]),
        (2, 5, [0, 10, 20, 30, 40]),
        (1000, 2, list(range(20))),
        (20, 40, list(range(0, 400, 20))),
        (20, 41, list(range(0, 410, 20))),
    ],
)
def test_a_sample_of_cells_is_of_the_first_rows_of_groups(
    tmp_path: Path, count: int, groups: int, taken: list[int]
) -> None:
    cells = [
        ParquetCell(tmp_path / "a", str(n), n // 10, n % 10, "image") for n in range(10 * groups)
    ]
    assert [int(cell.name) for cell in embedded.sampled(cells[::-1], count)] == taken


@pytest.mark.parametrize(("files", "step"), [(9, 1), (10, 1), (19, 1), (20, 2), (29, 2), (30, 3)])
def test_a_sample_of_files_is_spread_evenly(files: int, step: int) -> None:
    paths = [Path(str(number)) for number in range(files)]
    assert embedded.sampled(paths, 10) == paths[::step]


@pytest.mark.parametrize(("labels", "words"), [
    ([0, 1, None, 0, None, 1], r"a\.parquet: 2 of 6 rows have no label, such as .*row 3 \(2\)"),
    ([0, 1, -1, 0, 1, 1], r"a\.parquet: 1 of 6 rows have no label, such as .*row 3 \(2\)"),
    ([-1, -1, -1, -1, -1, -1], r"a\.parquet: 6 of 6 rows have no label, such as .*row 1 \(0\)"),
])  # fmt: skip
def test_rows_without_a_label_are_counted_and_the_first_is_named(
    tmp_path: Path, labels: list[int | None], words: str
) -> None:
    path = write_parquet(tmp_path / "a.parquet", {str(n): b"x" for n in range(6)}, labels)
    with pytest.raises(DataError, match=words):
        list_source(path)


def listing_of(path: Path, labels: list[Any], **more: Any) -> FileListing:
    """Of a file of one image per label."""
    images = {f"{number}.png": b"x" for number in range(len(labels))}
    return list_source(write_parquet(path, images, labels, **{"features": None, **more}))


ONE, TWO = [0, 1, 0], [1, 0, 1]
CLASSES = {"label": [{"names": ["ant", "bee", "fly"], "_type": "ClassLabel"}]}


@pytest.mark.parametrize("kind", [int, float, bool])
def test_lists_of_0_and_1_of_one_length_are_vectors(tmp_path: Path, kind: type) -> None:
    labels = [list(map(kind, row)) for row in (ONE, TWO)]
    listing = listing_of(tmp_path / "a.parquet", labels)
    assert listing.class_names == ("0", "1", "2")
    assert listing.targets.astype(int).tolist() == [ONE, TWO]
    fixed = pa.array(labels, pa.list_(pa.from_numpy_dtype(kind), 3))
    assert listing_of(tmp_path / "b.parquet", fixed).targets.tolist() == listing.targets.tolist()


def test_lists_of_positions_stay_such(tmp_path: Path) -> None:
    listing = listing_of(tmp_path / "a.parquet", [[0, 2], [1], []])
    assert listing.targets.astype(int).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    declared = listing_of(tmp_path / "b.parquet", [[0, 1], [1, 0]], features=CLASSES)
    assert declared.class_names == ("ant", "bee", "fly")
    assert declared.targets.astype(int).tolist() == [[1, 1, 0], [1, 1, 0]]
    vectors = listing_of(tmp_path / "c.parquet", [[False, True], [True, False]], features=CLASSES)
    assert vectors.targets.astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("labels", "features", "words"),
    [
        ([[0, 1], [1, 0]], None, "two positions or a vector of two classes"),
        ([ONE, TWO], CLASSES, r"row 1 \(0.png\) has the labels \[0, 1, 0\]: expected different"),
        ([[0, None], [1, 0]], None, r"1 of 2 rows have no label, such as .*row 1"),
        ([1.0, float("nan")], None, r"1 of 2 rows have no label, such as .*row 2"),
        ([0.5, 1.0], None, "labels such as 0.5: expected whole numbers or names"),
    ],
)
def test_labels_in_doubt_are_refused(
    tmp_path: Path, labels: list[Any], features: Any, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        listing_of(tmp_path / "a.parquet", labels, features=features)


@pytest.mark.parametrize("labels", [[0, 1, -1, 1], [0.0, 1.0, -1.0, 1.0], ["0", "1", "-1", "1"]])
def test_minus_one_next_to_numbers_from_zero_on_is_no_label(
    tmp_path: Path, labels: list[Any]
) -> None:
    names = dict.fromkeys(map(str, range(4)), b"x")
    with pytest.raises(DataError, match=r"1 of 4 rows have no label, such as .*row 3"):
        list_source(write_parquet(tmp_path / "a.parquet", names, labels, None))
    two = [labels[1] if label in (0, "0") else label for label in labels]
    listing = list_source(write_parquet(tmp_path / "b.parquet", names, two, None))
    assert listing.class_names == ("-1", "1")


def test_whole_numbers_that_are_stored_as_floats_are_labels(tmp_path: Path) -> None:
    listing = listing_of(tmp_path / "a.parquet", [1.0, 0.0, 10.0])
    assert listing.class_names == ("0", "1", "10")
    assert listing.targets.tolist() == [1, 0, 2]


def test_a_label_with_the_separator_of_a_table_is_one_class_with_a_note(tmp_path: Path) -> None:
    listing = listing_of(tmp_path / "a.parquet", ["ant|bee", "bee"])
    assert listing.class_names == ("ant|bee", "bee")
    assert "so 'ant|bee' is one class" in listing.notes[0]


def test_the_column_of_the_split_is_known_in_any_case_and_whole(tmp_path: Path) -> None:
    found = listing_of(tmp_path / "a.parquet", ["ant", "bee"], Split=["train", "test"])
    assert found.given_splits == ("train", "test")
    with pytest.raises(DataError, match=r"1 of 2 rows have no split, such as .*row 2 \(1.png\)"):
        listing_of(tmp_path / "b.parquet", ["ant", "bee"], split=["train", None])
    none = listing_of(tmp_path / "c.parquet", ["ant", "bee"], split=[None, None])
    assert none.given_splits is None


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["image", "label", "label"], "two columns of the same name: label, label"),
        (["image", "label", "Label"], "two columns of the same name: label, Label"),
        (["image.bytes", "label"], r"the column image\.bytes: expected a name without a dot"),
    ],
)
def test_names_of_columns_in_doubt_are_refused(names: list[str], words: str) -> None:
    kinds = {"image": pa.binary(), "image.bytes": pa.binary()}
    schema = pa.schema([(name, kinds.get(name, pa.int64())) for name in names])
    with pytest.raises(DataError, match=words):
        image_columns(Path("a.parquet"), schema)


def test_a_path_that_is_there_twice_names_no_image() -> None:
    text = pa.string()
    schema = pa.schema(
        [("image", pa.binary()), ("label", text), ("path", text), ("path", text), ("__key__", text)]
    )
    assert image_columns(Path("a.parquet"), schema).path == "__key__"
