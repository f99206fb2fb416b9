"""Parquet files with the bytes of images and their labels, as Hugging Face writes them."""

import importlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glasshouse.data.class_folders import SPLIT_FOLDERS
from glasshouse.data.class_names import (
    NO_LABEL,
    Classes,
    is_missing,
    list_classes,
    normal_name,
    stands_for_none,
)
from glasshouse.data.dataset_labels import are_vectors
from glasshouse.data.embedded import ParquetCell, Stamp, container_stamp
from glasshouse.data.file_splits import FileListing, SplitName
from glasshouse.data.parquet_columns import ImageColumns, image_candidates, image_columns
from glasshouse.data.parquet_pages import rows_at_once
from glasshouse.data.shards import Shard
from glasshouse.data.table_columns import SEPARATOR
from glasshouse.data.targets import Targets
from glasshouse.errors import DataError, UsageError, did_you_mean
from glasshouse.wording import pluralize

_ROWS_AT_ONCE = 1024
# Of the path of an image in its name: no path of a file is longer.
_MOST_PATH = 4096


@dataclass(frozen=True, slots=True)
class _Row:
    cell: ParquetCell
    shard: Shard
    split: SplitName | None
    path: str
    label: Any


def has_images(path: Path) -> bool:
    """Whether a Parquet file has a column of bytes, not only the paths of images."""
    return bool(image_candidates(_opened(path).schema_arrow))


def list_parquet(shards: Sequence[Shard], origin: Path) -> FileListing:
    """List the images in Parquet files; ids are their paths, where each has one of its own.

    Classes are those that the schema declares, in that order, else as for a table. A split without
    any label is left out. Raises DataError for files without images or labels, and for labels that
    are missing.
    """
    columns, rows = _read(shards, origin)
    rows, notes = _labelled(rows, columns, origin)
    targets, names, more = _targets(rows, columns, origin)
    return FileListing(
        origin=origin,
        paths=tuple(row.cell for row in rows),
        ids=np.array(_ids(rows)),
        targets=targets,
        class_names=names,
        given_splits=_given_splits(rows, origin),
        notes=(*notes, *more),
        left_out=notes,
    )


def _given_splits(rows: Sequence[_Row], origin: Path) -> tuple[SplitName, ...] | None:
    given = tuple(row.split for row in rows if row.split)
    if given and len(given) < len(rows):
        first = next(row.cell for row in rows if not row.split)
        raise DataError(
            f"{origin}: {len(rows) - len(given):,} of {len(rows):,} rows have no split, such as "
            f"{first}: fill in the column split, or remove it"
        )
    return given or None


def _opened(path: Path) -> Any:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError(f"{path} needs pyarrow: pip install 'glasshouse[parquet]'") from error
    try:
        return parquet.ParquetFile(path, pre_buffer=False)
    # pyarrow raises errors of many classes that have no base class in common.
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return DataError(
        f"{path} is truncated, damaged or no Parquet file: {reason}. Copy or write it again."
    )


def _read(shards: Sequence[Shard], origin: Path) -> tuple[ImageColumns, list[_Row]]:
    columns: ImageColumns | None = None
    rows: list[_Row] = []
    for shard in shards:
        # First: what is opened then is this, or is noticed to be something else when it is read.
        stamp = _stamp(shard.path)
        content = _opened(shard.path)
        found = image_columns(shard.path, content.schema_arrow)
        if columns is not None and found != columns:
            raise DataError(
                f"{shard.path} has other columns or classes than {shards[0].path}: expected one "
                f"data set; name one of the folders or files of {origin}"
            )
        columns = found
        if content.metadata.num_rows > stamp[0]:
            raise DataError(
                f"{shard.path} declares {content.metadata.num_rows:,} rows in {stamp[0]:,} bytes: "
                "expected an image in each row. Copy or write it again."
            )
        try:
            rows += _rows(shard, content, found, stamp)
        except DataError:
            raise
        except Exception as error:
            raise _damaged(shard.path, error) from error
    if columns is None or not rows:
        raise DataError(f"{origin} has no rows: expected one row per image")
    return columns, rows


def _stamp(path: Path) -> Stamp:
    try:
        return container_stamp(path.stat())
    except OSError as error:
        raise _damaged(path, error) from error


def _rows(shard: Shard, content: Any, columns: ImageColumns, stamp: Stamp) -> Iterator[_Row]:
    before = 0
    for group in range(content.num_row_groups):
        # Without the bytes, which are by far the most.
        row = 0
        for path, split, label in _cells(shard, content, group, columns):
            name = f"row {before + row + 1}" + (f" ({path:.{_MOST_PATH}})" if path else "")
            cell = ParquetCell(shard.path, name, group, row, columns.image, stamp=stamp)
            yield _Row(cell, shard, _split(split, cell) if split else shard.split, path, label)
            row += 1
        before += row


def _cells(
    shard: Shard, content: Any, group: int, columns: ImageColumns
) -> Iterator[tuple[str, str, Any]]:
    """The path, the split and the label of each row, a few rows in memory at a time."""
    wanted = [name for name in (columns.label, columns.path, columns.split) if name]
    most = rows_at_once(shard.path, content, group, wanted, _ROWS_AT_ONCE)
    for batch in content.iter_batches(
        batch_size=most, row_groups=[group], columns=wanted, use_threads=False
    ):
        labels = [_plain(label) for label in batch.column(columns.label).to_pylist()]
        paths, splits = _texts(batch, columns.path), _texts(batch, columns.split)
        yield from zip(paths, splits, labels, strict=True)


def _plain(value: Any) -> Any:
    """The value, where each text is kept once, as in a dictionary of a Parquet file.

    Whole numbers are such, since a column of them with a missing value is often stored as floats;
    what is not a number is missing.
    """
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and (value.is_integer() or value != value):
        return int(value) if value == value else None
    return sys.intern(value) if type(value) is str else value


def _texts(table: Any, column: str | None) -> list[str]:
    """The values of a column, or of a part of a structure, as text; empty where there is none."""
    if column is None:
        return [""] * table.num_rows
    name, _, part = column.partition(".")
    values = table.column(name).to_pylist()
    return [_plain(str((value.get(part) if part and value else value) or "")) for value in values]


def _split(text: str, cell: ParquetCell) -> SplitName:
    known = SPLIT_FOLDERS.get(text.strip().lower())
    if known is None:
        hint = did_you_mean(text, SPLIT_FOLDERS)
        raise DataError(f"{cell}, column split: unknown split {text!r:.60}. {hint}")
    return known


def _labelled(
    rows: Sequence[_Row], columns: ImageColumns, origin: Path
) -> tuple[list[_Row], tuple[str, ...]]:
    """The rows without those splits whose labels were withheld, with a note on these."""
    none = _unlabelled(rows, columns)
    bare = [row for row in rows if _is_bare(row.label, none)]
    if not bare:
        return list(rows), ()
    total = Counter(row.split for row in rows)
    without = Counter(row.split for row in bare)
    withheld = {s for s, count in without.items() if s is not None and count == total[s]}
    rest = [row for row in bare if row.split not in withheld]
    if rest or len(withheld) == len(total):
        first = (rest or bare)[0].cell
        raise DataError(
            f"{origin}: {len(rest or bare):,} of {len(rows):,} rows have no label, such as {first}"
        )
    notes = [
        f"The {split} split has no labels and was left out ({pluralize(without[split], 'image')})."
        for split in sorted(withheld)
    ]
    return [row for row in rows if row.split not in withheld], tuple(notes)


def _unlabelled(rows: Sequence[_Row], columns: ImageColumns) -> tuple[int | str, ...]:
    """What stands for no label here: Hugging Face writes -1 where those of a contest are withheld.

    Of declared classes, a number is a position, and there is none at -1.
    """
    if columns.class_names:
        return (int(NO_LABEL),)
    known = (str(row.label) for row in rows if not _is_bare(row.label, ()))
    is_used = not columns.are_several and stands_for_none(known)
    return (int(NO_LABEL), NO_LABEL) if is_used else ()


def _is_bare(label: Any, none: tuple[int | str, ...]) -> bool:
    if label is None or label in none:
        return True
    if isinstance(label, list):
        return any(_is_bare(each, none) for each in label)
    return isinstance(label, str) and is_missing(label)


def _targets(
    rows: Sequence[_Row], columns: ImageColumns, origin: Path
) -> tuple[Targets, tuple[str, ...], tuple[str, ...]]:
    """The labels as positions or as a matrix, the class names in order, and notes."""
    each = [row.label if columns.are_several else [row.label] for row in rows]
    flat = [label for labels in each for label in labels]
    _require_kind(flat, origin)
    length = 0
    if columns.are_several and not any(isinstance(label, str) for label in flat):
        each, length = _positions(rows, columns, origin)
        flat = [label for labels in each for label in labels]
    owner = np.repeat(np.arange(len(rows)), [len(labels) for labels in each])
    if columns.class_names is None:
        found = list_classes([str(label) for label in flat], map(str, range(length)))
    else:
        owners = [rows[number] for number in owner.tolist()]
        found = _declared_classes(flat, owners, columns.class_names)
    if not columns.are_several:
        return found.labels, found.names, (*found.notes, *_joined(found.names))
    matrix = np.zeros((len(rows), len(found.names)), dtype=np.bool_)
    matrix[owner, found.labels] = True
    return matrix, found.names, found.notes


def _positions(
    rows: Sequence[_Row], columns: ImageColumns, origin: Path
) -> tuple[list[list[int]], int]:
    """The labels of each row that are numbers, of vectors of 0 and 1 the positions of the ones.

    Also the length of the vectors; 0 where they are none.
    """
    values = [np.asarray(row.label or np.empty(0, dtype=np.int64)) for row in rows]
    # Of a declared class, a number is a position.
    if columns.class_names is None or all(value.dtype.kind == "b" for value in values):
        try:
            is_vector = are_vectors(values, None)
        except DataError as error:
            raise DataError(f"{origin}: {error}") from error
        if is_vector:
            return [np.flatnonzero(value).tolist() for value in values], len(values[0])
    twice = next((row for row in rows if len(set(row.label)) < len(row.label)), None)
    if twice is not None:
        raise DataError(
            f"{twice.cell} has the labels {twice.label!r:.60}: expected different ones, or in "
            "every row a vector of true and false, one value for each class"
        )
    return [row.label for row in rows], 0


def _joined(names: Sequence[str]) -> Iterator[str]:
    """What the owner of labels with the separator of a table may not expect."""
    joined = next((name for name in names if SEPARATOR in name), None)
    if joined is not None:
        yield (
            f"Each image has one label, so '{joined}' is one class. If '{SEPARATOR}' separates "
            "several labels, write a list of labels in each row."
        )


def _declared_classes(
    labels: Sequence[Any], rows: Sequence[_Row], names: tuple[str, ...]
) -> Classes:
    place = {name: number for number, name in enumerate(names)}
    found = np.empty(len(labels), dtype=np.int64)
    for number, (label, row) in enumerate(zip(labels, rows, strict=True)):
        position = place.get(normal_name(label), -1) if isinstance(label, str) else label
        if not isinstance(position, int) or not 0 <= position < len(names):
            raise DataError(
                f"{row.cell} has the label {label!r:.60}: expected one of the {len(names)} "
                f"declared classes, 0 to {len(names) - 1}"
            )
        found[number] = position
    return Classes(names, found)


def _require_kind(labels: Sequence[Any], origin: Path) -> None:
    odd = [label for label in labels if not isinstance(label, str | int)][:1]
    if odd:
        raise DataError(
            f"{origin} has labels such as {odd[0]!r:.60}: expected whole numbers or names"
        )


def _ids(rows: Sequence[_Row]) -> list[str]:
    """The paths, where each row has one of its own, so that an image stays in its split."""
    paths = [row.path for row in rows]
    if all(paths) and len(set(paths)) == len(paths):
        return paths
    return [f"{row.shard.name}/{row.cell.name}" for row in rows]
