import importlib
from pathlib import Path

import pytest

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
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
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
    assert listing.labels.tolist() == [0] * 6 + [1] * 6


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
        ("path,label\na.png,cat\na.png,dog\n", "row 3, column path: .*already in row 2"),
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
