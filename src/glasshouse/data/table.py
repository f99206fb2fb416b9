"""A CSV or Parquet table of images: the columns path and label, and optionally split.

Where images may have several labels, the column is named labels and has "|" between them, or there
is a column of 0 and 1 for each label.
"""

import csv
import importlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from glasshouse.data.class_folders import SPLIT_FOLDERS
from glasshouse.data.class_names import Classes, list_classes
from glasshouse.data.file_splits import FileListing, SplitName
from glasshouse.data.parquet_pages import rows_at_once
from glasshouse.data.table_columns import (
    SEPARATOR,
    Columns,
    MissingLabel,
    columns_of,
    joined_labels,
    labels_in,
)
from glasshouse.data.targets import Targets
from glasshouse.errors import DataError, UsageError, did_you_mean
from glasshouse.storage import text_encoding
from glasshouse.wording import first_of, pluralize

ENDINGS = (".csv", ".tsv", ".parquet")
# A Parquet table is read in parts of this many rows; one column of a group of rows, as large as the
# table's writer chose, is unpacked at once.
_ROWS_AT_ONCE, _MOST_PART_BYTES = 256, 256 << 20
_ROWS_NAMED = 5
_DELIMITERS = ",;\t|"


class TableRow(NamedTuple):
    """A row: the number that a text editor or viewer shows, path, labels and split.

    missing: why it has no label, where it should.
    """

    number: int
    path: str
    labels: tuple[str, ...]
    split: str
    missing: str = ""


def list_table(table: Path) -> FileListing:
    """List the images that a table names; paths are relative to the folder of the table.

    The ids are the paths as written. Raises DataError that names the row and the column.
    """
    is_parquet = table.suffix.lower() == ".parquet"
    # Row by row, since a compressed table may have a billion equal rows in a small file.
    columns, read = _read_parquet(table) if is_parquet else _read_csv(table)
    rows = list(_unique(table, read))
    if not rows:
        raise DataError(f"{table} has no rows below its header; expected one row per image")
    _require_labels(table, rows)
    found = list_classes([label for row in rows for label in row.labels], columns.one_hot)
    return FileListing(
        origin=table,
        paths=tuple(table.parent / row.path for row in rows),
        ids=np.array([row.path for row in rows]),
        targets=_matrix(rows, found) if columns.are_several else found.labels,
        class_names=found.names,
        given_splits=_given_splits(rows),
        notes=(*found.notes, *_remarks(rows, columns)),
    )


def _require_labels(table: Path, rows: Sequence[TableRow]) -> None:
    """Raise DataError for rows without a label, with their number and the first of them."""
    bare = [row for row in rows if row.missing]
    if not bare:
        return
    if len(bare) == 1:
        raise DataError(f"{table}, row {bare[0].number}, {bare[0].missing}")
    shown = first_of([str(row.number) for row in bare], _ROWS_NAMED)
    raise DataError(
        f"{table}: {len(bare):,} of {len(rows):,} rows have no label: rows {shown}; row "
        f"{bare[0].number}, {bare[0].missing}"
    )


def _matrix(rows: Sequence[TableRow], found: Classes) -> Targets:
    """Which labels each image has; found: the classes of the labels of all rows in order."""
    matrix = np.zeros((len(rows), len(found.names)), dtype=np.bool_)
    image = np.repeat(np.arange(len(rows)), [len(row.labels) for row in rows])
    matrix[image, found.labels] = True
    return matrix


def _remarks(rows: Sequence[TableRow], columns: Columns) -> Iterator[str]:
    """What the owner of a table may not expect of the way its labels are read."""
    every = {label for row in rows for label in row.labels}
    if not columns.are_several:
        joined = sorted(label for label in every if SEPARATOR in label)
        if joined:
            yield (
                f"The column label has one label per image, so '{joined[0]}' is one class. If "
                f"'{SEPARATOR}' separates several labels, name the column 'labels'."
            )
        return
    bare = sum(not row.labels for row in rows)
    yield (
        f"An image may have several labels; {pluralize(bare, 'image')} of {len(rows):,} "
        f"{'has' if bare == 1 else 'have'} none."
    )
    lists = sorted(label for label in every if "," in label or ";" in label)
    if lists and not columns.one_hot and max(len(row.labels) for row in rows) < 2:
        yield (
            f"No image has two labels, and '{lists[0]}' is one class. If it should be several, "
            f"write '{SEPARATOR}' between them."
        )


def _read_csv(table: Path) -> tuple[Columns, Iterator[TableRow]]:
    rows = _csv_rows(table)
    # The first thing that it yields; the rest are the rows, which are read as they are needed.
    columns = next(rows)
    assert isinstance(columns, Columns)
    return columns, (row for row in rows if isinstance(row, TableRow))


def _csv_rows(table: Path) -> Iterator[Columns | TableRow]:
    try:
        # Spreadsheets write a byte order mark, which would become part of the header.
        with table.open(encoding=text_encoding(table), newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(_DELIMITERS, key=first.count)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            columns = columns_of(table, next(reader, []))
            if columns.labels is not None and delimiter == SEPARATOR:
                raise DataError(
                    f"{table} has '{SEPARATOR}' between its columns, which separates labels: "
                    "write commas between the columns"
                )
            yield columns
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield _row(table, reader.line_num, cells, columns)
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{table}, row {reader.line_num}: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read {table}: {error.strerror}") from error


def _read_parquet(table: Path) -> tuple[Columns, Iterator[TableRow]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError(
            f"{table} needs pyarrow: pip install 'glasshouse[parquet]', or save it as CSV"
        ) from error
    try:
        content = parquet.ParquetFile(table)
        columns = columns_of(table, content.schema_arrow.names)
    except DataError:
        raise
    # pyarrow raises errors of many classes that have no base class in common.
    except Exception as error:
        raise DataError(f"{table} is not a Parquet table: {error}") from error
    return columns, _rows_of_parquet(table, content, columns)


def _rows_of_parquet(table: Path, content: Any, columns: Columns) -> Iterator[TableRow]:
    names = [content.schema_arrow.names[position] for position in columns.positions]
    width = max(columns.positions) + 1
    try:
        for number, values in enumerate(_parquet_rows(table, content, names), start=1):
            cells = [""] * width
            for position, text in zip(
                columns.positions, _texts(table, number, values, columns), strict=True
            ):
                cells[position] = text
            yield _row(table, number, cells, columns)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{table} is not a Parquet table: {error}") from error


def _parquet_rows(table: Path, content: Any, names: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """The values of the columns in this order, a few rows in memory at a time."""
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
        most = rows_at_once(table, content, group, names, _ROWS_AT_ONCE)
        for batch in content.iter_batches(batch_size=most, row_groups=[group], columns=names):
            yield from zip(*(batch.column(name).to_pylist() for name in names), strict=True)


def _texts(table: Path, number: int, values: Iterable[object], columns: Columns) -> list[str]:
    try:
        return [
            _text(_joined(value) if position == columns.labels else value)
            for position, value in zip(columns.positions, values, strict=True)
        ]
    except ValueError as error:
        raise DataError(f"{table}, row {number}: {error}") from error


def _joined(value: object) -> object:
    """A list of labels as a CSV file has it; anything else as it is."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        return value
    if any(each.endswith("\\") for each in value):
        raise ValueError(f"a label in a list cannot end in a backslash, received {value!r:.60}")
    return joined_labels(value)


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


def _row(table: Path, number: int, cells: Sequence[str], columns: Columns) -> TableRow:
    def cell(name: str, position: int | None) -> str:
        text = "" if position is None or position >= len(cells) else cells[position]
        if position is not None and (problem := _problem(name, text)):
            raise DataError(f"{table}, row {number}, column {name}: {problem}")
        return text

    path, split = cell("path", columns.path).strip(), cell("split", columns.split).strip().lower()
    if split and split not in SPLIT_FOLDERS:
        hint = did_you_mean(split, SPLIT_FOLDERS)
        raise DataError(f"{table}, row {number}, column split: unknown split '{split}'. {hint}")
    if columns.are_several and any(text.strip() for text in cells[columns.width :]):
        raise DataError(
            f"{table}, row {number}: {len(cells)} cells, but the header has {columns.width}; "
            f"write '{SEPARATOR}' between labels, not the character between columns"
        )
    try:
        return TableRow(number, path, labels_in(cells, columns), split)
    except MissingLabel as error:
        return TableRow(number, path, (), split, str(error))
    except ValueError as error:
        raise DataError(f"{table}, row {number}, {error}") from error


def _problem(name: str, text: str) -> str:
    """What is wrong with a cell for a path or split; empty if nothing is."""
    if not text.strip():
        return "the cell is empty; fill it in, or remove the row"
    # The system takes a path to end there, and Python refuses it with an error of its own.
    if name == "path" and "\0" in text:
        return f"a path cannot have a NUL character, received {text!r:.60}"
    return ""


def _unique(table: Path, rows: Iterable[TableRow]) -> Iterator[TableRow]:
    """The rows; raises DataError at the first path that occurs again."""
    seen: dict[str, int] = {}
    for row in rows:
        number, path = row.number, row.path
        if path in seen:
            raise DataError(
                f"{table}, row {number}, column path: '{path}' is already in row {seen[path]}"
            )
        seen[path] = number
        yield row


def _given_splits(rows: Sequence[TableRow]) -> tuple[SplitName, ...] | None:
    return tuple(SPLIT_FOLDERS[row.split] for row in rows) if rows[0].split else None
