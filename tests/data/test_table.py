import importlib
import math
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from glasshouse.data.class_folders import list_folder
from glasshouse.data.sources import load_splits
from glasshouse.data.table import list_table
from glasshouse.errors import DataError, UsageError
from glasshouse.settings import DataSettings
from tests.data.image_files import write_folder

ROWS = [(f"{name}/{i:03d}.png", name) for name in ("cat", "dog") for i in range(6)]


def write_table(root: Path, text: str, encoding: str = "utf-8") -> Path:
    write_folder(root, {"cat": 6, "dog": 6})
    path = root / "images.csv"
    path.write_text(text, encoding=encoding)
    return path


def csv_of(delimiter: str = ",") -> str:
    return "\n".join(delimiter.join(row) for row in [("path", "label"), *ROWS]) + "\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_any_common_delimiter_and_a_byte_order_mark_are_read(
    tmp_path: Path, delimiter: str, encoding: str
) -> None:
    listing = list_table(write_table(tmp_path, csv_of(delimiter), encoding))
    assert listing.class_names == ("cat", "dog")
    assert listing.ids.tolist() == [path for path, _ in ROWS]
    assert listing.paths[0] == tmp_path / "cat" / "000.png"


def test_a_table_loads_like_a_folder(tmp_path: Path) -> None:
    splits = load_splits(write_table(tmp_path, csv_of()), DataSettings(image_size=8))
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 12


def test_the_split_column_is_kept(tmp_path: Path) -> None:
    parts = ["train", "train", "Val", "validation", "test", "test"] * 2
    rows = [f"{path},{label},{part}" for (path, label), part in zip(ROWS, parts, strict=True)]
    table = write_table(tmp_path, "path,label,split\n" + "\n".join(rows))
    splits = load_splits(table, DataSettings(image_size=8))
    assert splits.validation.ids.tolist() == [
        "cat/002.png", "cat/003.png", "dog/002.png", "dog/003.png",
    ]  # fmt: skip


def test_parquet_gives_the_same(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    write_folder(tmp_path, {"cat": 6, "dog": 6})
    table = pyarrow.table({"path": [p for p, _ in ROWS], "label": [n for _, n in ROWS]})
    pyarrow.parquet.write_table(table, tmp_path / "images.parquet")
    listing = list_table(tmp_path / "images.parquet")
    assert listing.ids.tolist() == [path for path, _ in ROWS]
    assert listing.targets.tolist() == [0] * 6 + [1] * 6


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UsageError, match=r"pip install 'glasshouse\[parquet\]'"):
        list_table(tmp_path / "images.parquet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path'"),
        ("path,label\n", "no rows below its header"),
        ("file,label\na.png,cat\n", "no column 'path': .*found file, label"),
        ("path,lable\na.png,cat\n", "no column 'label': .*Did you mean 'lable'"),
        ("path,label\na.png,cat\nb.png,\n", "row 3, column label: the cell is empty"),
        ("path,label\na.png\n", "row 2, column label: the cell is empty"),
        (
            "path,label\n" + "".join(f"{i}.png,{'cat' if i % 3 else ''}\n" for i in range(21)),
            "7 of 21 rows have no label: rows 2, 5, 8, 11, 14 and 2 more; row 2, column label: the",
        ),
        ("path,label\na.png,\nb.png,nan\n", "2 of 2 rows have no label: rows 2, 3; row 2,"),
        ("path,label\na.png,cat\nb.png,NaN\n", "row 3, column label: 'NaN' stands for a missing"),
        ("path,label\na.png,cat\nb\0.png,cat\n", "row 3, column path: .*NUL character"),
        ("path,label\na.png,cat\na.png,dog\n", "row 3, column path: .*already in row 2"),
        ("path,label,split\na.png,cat,\n", "row 2, column split: the cell is empty"),
        ("path,label\n  ,cat\n", "row 2, column path: the cell is empty; fill it in"),
        ('path,label\n"a.png,cat\n', "row 2: unexpected end of data"),
        ("path,label,split\na.png,cat,tset\n", "row 2, column split: unknown split 'tset'.*'test'"),
    ],
)
def test_what_is_wrong_is_named_by_row_and_column(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_table(write_table(tmp_path, text))


def test_a_missing_image_is_a_bad_file(tmp_path: Path) -> None:
    table = write_table(tmp_path, csv_of() + "cat/gone.png,cat\n")
    with pytest.raises(DataError, match=r"gone\.png: "):
        load_splits(table, DataSettings(image_size=8))


def test_labels_that_are_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    rows = "\n".join(f"p{i}.png,{i}" for i in (10, 9, 2))
    assert list_table(write_table(tmp_path, f"path,label\n{rows}\n")).class_names == (
        "2",
        "9",
        "10",
    )


def write_parquet(root: Path, labels: list[object], **columns: object) -> Path:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"path": [f"{k}.png" for k in range(len(labels))], "label": labels})
    for name, values in columns.items():
        table = table.set_column(
            table.column_names.index(name) if name in table.column_names else table.num_columns,
            name,
            [values],
        )
    pyarrow.parquet.write_table(table, root / "images.parquet")
    return root / "images.parquet"


def test_a_small_parquet_file_with_many_equal_rows_is_left_at_the_second(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = pyarrow.array(np.zeros(200_000, dtype=np.int32))
    column = pyarrow.DictionaryArray.from_arrays(rows, ["x" * 30_000])
    table = pyarrow.table({"path": column, "label": column})
    pyarrow.parquet.write_table(table, tmp_path / "images.parquet")
    assert (tmp_path / "images.parquet").stat().st_size < 1 << 18
    before = pyarrow.total_allocated_bytes()
    with pytest.raises(DataError, match=r"row 2, column path: .* is already in row 1"):
        list_table(tmp_path / "images.parquet")
    assert pyarrow.total_allocated_bytes() - before < 1 << 28


def test_a_part_of_a_parquet_file_that_is_too_large_unpacked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_parquet(tmp_path, ["cat", "dog"] * 50)
    assert len(list_table(path).targets) == 100
    monkeypatch.setattr("glasshouse.data.table._MOST_PART_BYTES", 100)
    with pytest.raises(DataError, match=r"images\.parquet: a part of the column path is .* bytes"):
        list_table(path)


def test_the_rows_of_a_parquet_file_are_counted_through_its_groups(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    paths = [f"{k}.png" for k in range(1000)]
    table = pyarrow.table({"label": ["cat", *["dog"] * 998, None], "path": paths, "other": paths})
    pyarrow.parquet.write_table(table, tmp_path / "images.parquet", row_group_size=300)
    with pytest.raises(DataError, match="row 1000, column label: the cell is empty"):
        list_table(tmp_path / "images.parquet")


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", None, "dog"],
        [0.0, math.nan, 1.0],
        [0, None, 1],
        [True, None, False],
        ["cat", "nan", "dog"],
        [Decimal("1"), None, Decimal("2")],
        [datetime(2026, 1, 1), None, datetime(2026, 1, 2)],
    ],
    ids=["text", "floats", "integers", "booleans", "the word nan", "decimals", "times"],
)
def test_a_missing_label_of_any_type_is_refused_by_row(
    tmp_path: Path, labels: list[object]
) -> None:
    with pytest.raises(DataError, match=r"row 2, column label: .*remove the row"):
        list_table(write_parquet(tmp_path, labels))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([1.0, 10.0, 2.0, -0.0], ("0", "1", "2", "10")),
        ([1e16, 3.0], ("3", "10000000000000000")),
        ([1, 10, 2], ("1", "2", "10")),
        ([Decimal("1.00"), Decimal("2.00")], ("1", "2")),
        ([b"cat", b"dog"], ("cat", "dog")),
        ([0.5, 1.0], ("0.5", "1.0")),
        ([True, False], ("False", "True")),
    ],
    ids=["floats", "large", "integers", "decimals", "bytes", "fractions", "booleans"],
)
def test_labels_of_any_type_give_the_names_that_a_csv_file_gives(
    tmp_path: Path, labels: list[object], names: tuple[str, ...]
) -> None:
    assert list_table(write_parquet(tmp_path, labels)).class_names == names


@pytest.mark.parametrize("kind", ["float16", "float32", "category"])
def test_floats_of_every_width_and_categories_are_read(tmp_path: Path, kind: str) -> None:
    import pyarrow

    values = (
        pyarrow.array(["1.0", "0.0", "10.0"]).dictionary_encode()
        if kind == "category"
        else pyarrow.array(np.array([1, 0, 10], dtype=kind))
    )
    table = write_parquet(tmp_path, [0, 0, 0], label=values)
    assert list_table(table).class_names == ("0", "1", "10")


def test_a_list_or_a_structure_as_a_label_is_refused_by_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1: expected text or a number, received \['cat'\]"):
        list_table(write_parquet(tmp_path, [["cat"], ["dog"]]))


def test_a_label_with_white_space_joins_its_class_with_a_note(tmp_path: Path) -> None:
    listing = list_table(write_table(tmp_path, "path,label\na.png,cat\nb.png,cat \nc.png,dog\n"))
    assert listing.class_names == ("cat", "dog")
    assert listing.targets.tolist() == [0, 0, 1]
    assert listing.notes[0].endswith("are one class: 'cat' and 'cat '.")


def test_a_folder_and_a_table_of_it_have_the_same_classes(tmp_path: Path) -> None:
    names = ["0", "1", "10", "2", "9"]
    write_folder(tmp_path / "images", dict.fromkeys(names, 1))
    rows = "\n".join(f"images/{name}/000.png,{name}.0" for name in reversed(names))
    (tmp_path / "images.csv").write_text(f"path,label\n{rows}\n")
    folder, table = list_folder(tmp_path / "images"), list_table(tmp_path / "images.csv")
    assert folder.class_names == table.class_names == ("0", "1", "2", "9", "10")


def test_a_path_that_the_system_refuses_is_a_bad_file_with_the_reason(tmp_path: Path) -> None:
    long, broken = f"{'x' * 300}.png", "with\na line.png"
    table = write_table(tmp_path, csv_of() + f'{long},cat\n"{broken}",cat\n')
    settings = DataSettings(image_size=8)
    with pytest.raises(DataError, match=r"(?s)2 of 14 files cannot be read.*name too long"):
        load_splits(table, settings)
    splits = load_splits(table, settings.model_copy(update={"on_bad_file": "skip"}))
    assert len(splits.bad_files) == 2


def test_backslashes_in_paths_are_named_as_the_reason(tmp_path: Path) -> None:
    table = write_table(tmp_path, csv_of().replace("/", "\\"))
    with pytest.raises(DataError, match=r"(?s)does not exist.*need forward slashes"):
        load_splits(table, DataSettings(image_size=8))


def labelled(root: Path, text: str) -> tuple[tuple[str, ...], list[list[int]], tuple[str, ...]]:
    listing = list_table(write_table(root, text))
    return listing.class_names, listing.targets.astype(int).tolist(), listing.notes


def test_several_labels_are_a_matrix_and_images_without_any_are_counted(tmp_path: Path) -> None:
    names, matrix, notes = labelled(
        tmp_path, "path,labels\na.png,dog|cat\nb.png,\nc.png, cat | sofa |\nd.png,cat|cat\n"
    )
    assert names == ("cat", "dog", "sofa")
    assert matrix == [[1, 1, 0], [0, 0, 0], [1, 0, 1], [1, 0, 0]]
    assert any("1 image of 4 has none" in note for note in notes)


def test_columns_of_0_and_1_give_the_same_as_labels(tmp_path: Path) -> None:
    text = (
        "path,dog,cat,Sofa,split\na.png,1,1,0,train\nb.png,0,0.0,FALSE,test\nc.png,0,1,true,val\n"
    )
    listing = list_table(write_table(tmp_path, text))
    assert listing.class_names == ("Sofa", "cat", "dog")
    assert listing.targets.astype(int).tolist() == [[0, 1, 1], [0, 0, 0], [1, 1, 0]]
    assert listing.given_splits == ("train", "test", "validation")


@pytest.mark.parametrize(
    ("text", "is_set"),
    [("1", True), ("1.0", True), (" true ", True), ("True", True),
     ("0", False), ("0.0", False), ("FALSE", False)],
)  # fmt: skip
def test_each_way_to_write_yes_and_no_is_read(tmp_path: Path, text: str, is_set: bool) -> None:
    table = write_table(tmp_path, f"path,dog,cat\na.png,{text},1\nb.png,0,0\n")
    assert list_table(table).targets.tolist() == [[True, is_set], [False, False]]


def test_a_parquet_table_may_have_lists_of_labels_or_truth_values(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    lists = {"path": ["a.png", "b.png"], "labels": [["dog", "cat"], []]}
    pyarrow.parquet.write_table(pyarrow.table(lists), tmp_path / "lists.parquet")
    assert list_table(tmp_path / "lists.parquet").targets.tolist() == [[True] * 2, [False] * 2]
    truths = {"path": ["a.png", "b.png"], "dog": [True, False], "cat": [1, 0]}
    pyarrow.parquet.write_table(pyarrow.table(truths), tmp_path / "truths.parquet")
    assert list_table(tmp_path / "truths.parquet").targets.tolist() == [[True] * 2, [False] * 2]
    lists["labels"] = [["dog"], ["bee|fly", "cat"]]
    pyarrow.parquet.write_table(pyarrow.table(lists), tmp_path / "bars.parquet")
    found = list_table(tmp_path / "bars.parquet")
    assert found.class_names == ("bee|fly", "cat", "dog")
    assert found.targets.tolist() == [[False, False, True], [True, True, False]]
    lists["labels"] = [["dog"], ["C:\\", "cat"]]
    pyarrow.parquet.write_table(pyarrow.table(lists), tmp_path / "ends.parquet")
    with pytest.raises(DataError, match=r"row 2: a label in a list cannot end in a backslash"):
        list_table(tmp_path / "ends.parquet")


def test_a_backslash_keeps_a_bar_in_a_label(tmp_path: Path) -> None:
    names, matrix, _ = labelled(
        tmp_path, "path,labels\na.png,\u5706\\|\u5f62|\U0001f98a\nb.png,back\\slash|\U0001f98a\n"
    )
    assert names == ("back\\slash", "\u5706|\u5f62", "\U0001f98a")
    assert matrix == [[0, 1, 1], [1, 0, 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path|labels\na.png|cat|dog\n", "which separates labels: write commas"),
        ("path,labels\na.png,cat,dog\n", r"row 2: 3 cells, but the header has 2; write '\|'"),
        ("path,labels\na.png,cat|NaN\n", "row 2, column labels: 'NaN' stands for a missing"),
        ("path,label,labels\na.png,cat,cat\n", "both columns 'label' and 'labels'"),
        ("path,cat,dog\na.png,1,2\n", "row 2, column dog: expected 0 or 1, .*received '2'"),
        ("path,cat,dog\na.png,1,\n", "row 2, column dog: expected 0 or 1"),
        ("path,cat,cat,dog\na.png,1,1,0\n", "two columns of the same name"),
        ("path,label,Label\na.png,cat,dog\n", "two columns of the same name: path, label, Label"),
        ("path,path,label\na.png,b.png,cat\n", "two columns of the same name"),
    ],
)
def test_labels_that_could_be_misread_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_table(write_table(tmp_path, text))


def test_notes_say_how_labels_that_look_like_several_were_read(tmp_path: Path) -> None:
    _, _, notes = labelled(tmp_path, "path,label\na.png,cat|dog\nb.png,cat\n")
    assert any("'cat|dog' is one class" in note and "'labels'" in note for note in notes)
    _, _, notes = labelled(tmp_path, 'path,labels\na.png,"cat, dog"\nb.png,cat\n')
    assert any("'cat, dog' is one class" in note for note in notes)


def test_a_table_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"images\.csv is not UTF-8 text \(invalid .*save it as UTF"
    ):
        list_table(write_table(tmp_path, "path,label\ncafé.png,cat\n", "latin-1"))
    with pytest.raises(DataError, match=r"cannot read .*none\.csv: No such file"):
        list_table(tmp_path / "none.csv")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"x\.parquet is not a Parquet table: "):
        list_table(tmp_path / "x.parquet")
