"""A CSV or Parquet table of images with the columns path and label, and optionally split."""

import csv
import importlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glasshouse.data.class_names import is_missing, list_classes
from glasshouse.data.file_splits import FileListing, SplitName
from glasshouse.errors import DataError, UsageError, did_you_mean

ENDINGS = (".csv", ".tsv", ".parquet")
# A Parquet table is read in parts of this many rows; one column of a group of rows, as large as the
# table's writer chose, is unpacked at once.
_ROWS_AT_ONCE, _MOST_PART_BYTES = 256, 256 << 20
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
    is_parquet = table.suffix.lower() == ".parquet"
    # Row by row, since a compressed table may have a billion equal rows in a small file.
    rows = list(_unique(table, _read_parquet(table) if is_parquet else _read_csv(table)))
    if not rows:
        raise DataError(f"{table} has no rows below its header; expected one row per image")
    classes = list_classes([label for _, _, label, _ in rows])
    return FileListing(
        origin=table,
        paths=tuple(table.parent / path for _, path, _, _ in rows),
        ids=np.array([path for _, path, _, _ in rows]),
        labels=classes.labels,
        class_names=classes.names,
        given_splits=_given_splits(rows),
        notes=classes.notes,
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
        content = parquet.ParquetFile(table)
        columns = _columns(table, content.schema_arrow.names)
        places = {name: place for place, name in enumerate(columns)}
        for number, values in enumerate(_parquet_rows(table, content, columns), start=1):
            yield _row(table, number, _texts(table, number, values), places)
    except DataError:
        raise
    # pyarrow raises errors of many classes that have no base class in common.
    except Exception as error:
        raise DataError(f"{table} is not a Parquet table: {error}") from error


def _parquet_rows(
    table: Path, content: Any, columns: dict[str, int]
) -> Iterator[tuple[object, ...]]:
    """The values of the columns in this order, a few rows in memory at a time."""
    names = [content.schema_arrow.names[position] for position in columns.values()]
    for group in range(content.metadata.num_row_groups):
        parts = content.metadata.row_group(group)
        for place in range(parts.num_columns):
            part = parts.column(place)
            name = part.path_in_schema.partition(".")[0]
            if name in names and part.total_uncompressed_size > _MOST_PART_BYTES:
                raise DataError(
                    f"{table}: a part of the column {name} is {part.total_uncompressed_size:,} "
                    f"bytes when unpacked; expected at most {_MOST_PART_BYTES:,}. Write the table "
                    "in smaller groups of rows."
                )
    for batch in content.iter_batches(batch_size=_ROWS_AT_ONCE, columns=names):
        yield from zip(*(batch.column(name).to_pylist() for name in names), strict=True)


def _texts(table: Path, number: int, values: Iterable[object]) -> list[str]:
    try:
        return [_text(value) for value in values]
    except ValueError as error:
        raise DataError(f"{table}, row {number}: {error}") from error


def _text(value: object) -> str:
    """A value of a Parquet table as a CSV file has it; empty where it is missing.

    Raises ValueError for bytes that are not text, and for lists and structures.
    """
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, list | dict | tuple):
        raise ValueError(f"expected text or a number, received {value!r:.60}")
    # NaN, of whatever type, is the only value that does not equal itself.
    if value != value:
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        # Without an exponent, and without the sign of a negative zero.
        return f"{float(value) + 0.0:.1f}"
    return str(value)


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
        text = cells[position] if position < len(cells) else ""
        if problem := _problem(name, text):
            raise DataError(f"{table}, row {number}, column {name}: {problem}")
        # White space around a label decides nothing, but is noted where labels differ by it.
        values[name] = text if name == "label" else text.strip()
    split = values.get("split", "")
    if split and split.lower() not in _SPLIT_NAMES:
        hint = did_you_mean(split, _SPLIT_NAMES)
        raise DataError(f"{table}, row {number}, column split: unknown split '{split}'. {hint}")
    return number, values["path"], values["label"], split.lower()


def _problem(name: str, text: str) -> str:
    """What is wrong with a cell; empty if nothing is."""
    if not text.strip():
        return "the cell is empty; fill it in, or remove the row"
    if name == "label" and is_missing(text):
        return f"'{text.strip()}' stands for a missing label; write the label, or remove the row"
    # The system takes a path to end there, and Python refuses it with an error of its own.
    if name == "path" and "\0" in text:
        return f"a path cannot have a NUL character, received {text!r:.60}"
    return ""


def _unique(table: Path, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows; raises DataError at the first path that occurs again."""
    seen: dict[str, int] = {}
    for row in rows:
        number, path, _, _ = row
        if path in seen:
            raise DataError(
                f"{table}, row {number}, column path: '{path}' is already in row {seen[path]}"
            )
        seen[path] = number
        yield row


def _given_splits(rows: Sequence[Row]) -> tuple[SplitName, ...] | None:
    return tuple(_SPLIT_NAMES[split] for _, _, _, split in rows) if rows[0][3] else None
