"""A CSV or Parquet table of images with the columns path and label, and optionally split."""

import csv
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from glasshouse.data.file_splits import FileListing, SplitName
from glasshouse.errors import DataError, UsageError, did_you_mean

ENDINGS = (".csv", ".tsv", ".parquet")
_DELIMITERS = ",;\t|"
_SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}
# The row number that a text editor or viewer shows, then path, label and split.
Row = tuple[int, str, str, str]


def list_table(table: Path) -> FileListing:
    """List the images that a table names; paths are relative to the folder of the table.

    The ids are the paths as written. Raises DataError that names the row and the column.
    """
    rows = list(_read_parquet(table) if table.suffix.lower() == ".parquet" else _read_csv(table))
    if not rows:
        raise DataError(f"{table} has no rows below its header; expected one row per image")
    _check_unique(table, rows)
    class_names = _sorted_names({label for _, _, label, _ in rows})
    numbers = {name: number for number, name in enumerate(class_names)}
    return FileListing(
        origin=table,
        paths=tuple(table.parent / path for _, path, _, _ in rows),
        ids=np.array([path for _, path, _, _ in rows]),
        labels=np.array([numbers[label] for _, _, label, _ in rows], dtype=np.int64),
        class_names=class_names,
        given_splits=_given_splits(rows),
    )


def _read_csv(table: Path) -> Iterator[Row]:
    try:
        # utf-8-sig: spreadsheets write a byte order mark, which would become part of the header.
        with table.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(_DELIMITERS, key=first.count), strict=True)
            columns = _columns(table, next(reader, []))
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield _row(table, reader.line_num, cells, columns)
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{table}, row {reader.line_num}: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read {table}: {error.strerror}") from error


def _read_parquet(table: Path) -> Iterator[Row]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError(
            f"{table} needs pyarrow: pip install 'glasshouse[parquet]', or save it as CSV"
        ) from error
    try:
        content = parquet.read_table(table)
    # pyarrow raises errors of many classes that have no base class in common.
    except Exception as error:
        raise DataError(f"{table} is not a Parquet table: {error}") from error
    columns = _columns(table, content.column_names)
    for number, values in enumerate(zip(*content.to_pydict().values(), strict=True), start=1):
        cells = ["" if value is None else str(value) for value in values]
        yield _row(table, number, cells, columns)


def _columns(table: Path, header: Sequence[str]) -> dict[str, int]:
    """The positions of path, label and split."""
    names = [name.strip().lower() for name in header]
    for wanted in ("path", "label"):
        if wanted not in names:
            found = ", ".join(header) or "nothing"
            hint = did_you_mean(wanted, names) if names else ""
            raise DataError(
                f"{table} has no column '{wanted}': expected path,label[,split] in the first row, "
                f"found {found}. {hint}".strip()
            )
    return {name: names.index(name) for name in ("path", "label", "split") if name in names}


def _row(table: Path, number: int, cells: Sequence[str], columns: dict[str, int]) -> Row:
    values = {}
    for name, position in columns.items():
        text = cells[position].strip() if position < len(cells) else ""
        if not text:
            raise DataError(f"{table}, row {number}, column {name}: the cell is empty")
        values[name] = text
    split = values.get("split", "")
    if split and split.lower() not in _SPLIT_NAMES:
        hint = did_you_mean(split, _SPLIT_NAMES)
        raise DataError(f"{table}, row {number}, column split: unknown split '{split}'. {hint}")
    return number, values["path"], values["label"], split.lower()


def _check_unique(table: Path, rows: Sequence[Row]) -> None:
    seen: dict[str, int] = {}
    for number, path, _, _ in rows:
        if path in seen:
            raise DataError(
                f"{table}, row {number}, column path: '{path}' is already in row {seen[path]}"
            )
        seen[path] = number


def _sorted_names(labels: set[str]) -> tuple[str, ...]:
    """Numbers by value, everything else alphabetically."""
    if all(label.isdecimal() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def _given_splits(rows: Sequence[Row]) -> tuple[SplitName, ...] | None:
    return tuple(_SPLIT_NAMES[split] for _, _, _, split in rows) if rows[0][3] else None
