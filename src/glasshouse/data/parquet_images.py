"""Parquet files with the bytes of images and their labels, as Hugging Face writes them."""

import importlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glasshouse.data.class_folders import SPLIT_FOLDERS
from glasshouse.data.class_names import Classes, is_missing, list_classes, normal_name
from glasshouse.data.embedded import ParquetCell
from glasshouse.data.file_splits import FileListing, SplitName
from glasshouse.data.parquet_pages import rows_at_once
from glasshouse.data.shards import Shard
from glasshouse.data.targets import Targets
from glasshouse.errors import DataError, UsageError, did_you_mean
from glasshouse.wording import pluralize

# As Hugging Face's data sets call them, the usual ones first.
_IMAGE_NAMES = ("image", "img", "images", "pixel_values", "jpg", "png")
_LABEL_NAMES = ("label", "labels", "class", "target", "fine_label", "cls")
_ROWS_AT_ONCE = 1024
# Of the path of an image in its name: no path of a file is longer.
_MOST_PATH = 4096


@dataclass(frozen=True)
class ImageColumns:
    """Which columns hold what. image: that of the bytes, as image.bytes within a structure.

    path: the column of the name of each image; split: that of its split; None where there is none.
    class_names: of a label that is a number, if they are declared.
    """

    image: str
    path: str | None
    split: str | None
    label: str
    are_several: bool
    class_names: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class _Row:
    cell: ParquetCell
    shard: Shard
    split: SplitName | None
    path: str
    label: Any


def has_images(path: Path) -> bool:
    """Whether a Parquet file has a column of bytes, not only the paths of images."""
    return bool(_image_candidates(_opened(path).schema_arrow))


def list_parquet(shards: Sequence[Shard], origin: Path) -> FileListing:
    """List the images in Parquet files; ids are their paths, where each has one of its own.

    Classes are those that the schema declares, in that order, else as for a table. A split without
    any label is left out. Raises DataError for files without images or labels, and for labels that
    are missing.
    """
    columns, rows = _read(shards, origin)
    rows, notes = _labelled(rows, columns, origin)
    targets, names, more = _targets(rows, columns, origin)
    splits: list[SplitName | None] = [row.split for row in rows]
    return FileListing(
        origin=origin,
        paths=tuple(row.cell for row in rows),
        ids=np.array(_ids(rows)),
        targets=targets,
        class_names=names,
        given_splits=tuple(s for s in splits if s) if all(splits) else None,
        notes=(*notes, *more),
    )


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
        content = _opened(shard.path)
        found = _columns(shard.path, content.schema_arrow)
        if columns is not None and found != columns:
            raise DataError(
                f"{shard.path} has other columns or classes than {shards[0].path}: expected one "
                f"data set; name one of the folders or files of {origin}"
            )
        columns = found
        size = shard.path.stat().st_size
        if content.metadata.num_rows > size:
            raise DataError(
                f"{shard.path} declares {content.metadata.num_rows:,} rows in {size:,} bytes: "
                "expected an image in each row. Copy or write it again."
            )
        try:
            rows += _rows(shard, content, found)
        except DataError:
            raise
        except Exception as error:
            raise _damaged(shard.path, error) from error
    if columns is None or not rows:
        raise DataError(f"{origin} has no rows: expected one row per image")
    return columns, rows


def _rows(shard: Shard, content: Any, columns: ImageColumns) -> Iterator[_Row]:
    before = 0
    for group in range(content.num_row_groups):
        # Without the bytes, which are by far the most.
        row = 0
        for path, split, label in _cells(shard, content, group, columns):
            name = f"row {before + row + 1}" + (f" ({path:.{_MOST_PATH}})" if path else "")
            cell = ParquetCell(shard.path, name, group, row, columns.image)
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
        labels = [_shared(label) for label in batch.column(columns.label).to_pylist()]
        paths, splits = _texts(batch, columns.path), _texts(batch, columns.split)
        yield from zip(paths, splits, labels, strict=True)


def _shared(value: Any) -> Any:
    """The value, where each text is kept once, as in a dictionary of a Parquet file."""
    if isinstance(value, list):
        return [_shared(each) for each in value]
    return sys.intern(value) if type(value) is str else value


def _texts(table: Any, column: str | None) -> list[str]:
    """The values of a column, or of a part of a structure, as text; empty where there is none."""
    if column is None:
        return [""] * table.num_rows
    name, _, part = column.partition(".")
    values = table.column(name).to_pylist()
    return [_shared(str((value.get(part) if part and value else value) or "")) for value in values]


def _split(text: str, cell: ParquetCell) -> SplitName:
    known = SPLIT_FOLDERS.get(text.strip().lower())
    if known is None:
        hint = did_you_mean(text, SPLIT_FOLDERS)
        raise DataError(f"{cell}, column split: unknown split {text!r:.60}. {hint}")
    return known


def _columns(path: Path, schema: Any) -> ImageColumns:
    declared = _declared_features(schema)
    candidates = _image_candidates(schema)
    if not candidates:
        raise DataError(
            f"{path} has no images: expected a column of bytes, or of a structure of bytes and "
            f"path as Hugging Face writes it; found {', '.join(schema.names) or 'no columns'}"
        )
    image = _chosen(path, "images", candidates, _IMAGE_NAMES, _of_type(declared, "Image"))
    labels = [name for name in schema.names if name != image.partition(".")[0]]
    label = _label_column(path, labels, declared)
    kind = importlib.import_module("pyarrow").types
    return ImageColumns(
        image=image,
        path=_path_column(schema, image),
        split="split" if "split" in schema.names else None,
        label=label,
        are_several=kind.is_list(schema.field(label).type)
        or kind.is_large_list(schema.field(label).type),
        class_names=_class_names(path, declared.get(label)),
    )


def _image_candidates(schema: Any) -> list[str]:
    """The columns of bytes, and those of a structure with such a part."""
    kind = importlib.import_module("pyarrow").types
    found = []
    for field in schema:
        if _are_bytes(field.type):
            found.append(field.name)
        elif kind.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            found.append(f"{field.name}.bytes")
    return found


def _are_bytes(given: Any) -> bool:
    """Whether a type of pyarrow is one of bytes of any length, also by way of a dictionary."""
    kind = importlib.import_module("pyarrow").types
    if kind.is_dictionary(given):
        given = given.value_type
    return bool(kind.is_binary(given) or kind.is_large_binary(given) or kind.is_binary_view(given))


def _path_column(schema: Any, image: str) -> str | None:
    name, _, part = image.partition(".")
    if part and schema.field(name).type.get_field_index("path") >= 0:
        return f"{name}.path"
    return next((each for each in ("path", "file_name", "__key__") if each in schema.names), None)


def _label_column(path: Path, names: Sequence[str], declared: Mapping[str, Any]) -> str:
    classes = [name for name in names if _names_of(declared.get(name))]
    known = [name for name in names if name.lower() in _LABEL_NAMES]
    if not classes and not known:
        raise DataError(
            f"{path} has no labels: expected a column named label; found "
            f"{', '.join(names) or 'only images'}"
        )
    return _chosen(path, "labels", known or classes, _LABEL_NAMES, classes)


def _chosen(
    path: Path, what: str, names: Sequence[str], usual: Sequence[str], declared: Sequence[str]
) -> str:
    """The column of these names: the only one, the declared one, or the one that is called so."""
    first = [n for n in names if n.partition(".")[0] in declared] or list(names)
    for name in usual:
        for each in first:
            if each.partition(".")[0].lower() == name:
                return each
    if len(first) > 1:
        raise DataError(
            f"{path} has several columns of {what} ({', '.join(first)}): name the one to be used "
            f"'{usual[0]}', or leave the others out"
        )
    return first[0]


def _declared_features(schema: Any) -> dict[str, Any]:
    """What Hugging Face's metadata says of each column; nothing where there is none."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(text)["info"]["features"]
        return dict(features)
    except (ValueError, KeyError, TypeError):
        return {}


def _of_type(declared: Mapping[str, Any], kind: str) -> list[str]:
    return [n for n, f in declared.items() if isinstance(f, Mapping) and f.get("_type") == kind]


def _names_of(feature: Any) -> list[str] | None:
    """The class names of a feature: of a label, or of a list of them."""
    if isinstance(feature, list) and len(feature) == 1:
        return _names_of(feature[0])
    if not isinstance(feature, Mapping):
        return None
    if "feature" in feature:
        return _names_of(feature["feature"])
    names = feature.get("names")
    return [str(name) for name in names] if isinstance(names, list) and names else None


def _class_names(path: Path, feature: Any) -> tuple[str, ...] | None:
    names = _names_of(feature)
    if names is None:
        return None
    plain = tuple(map(normal_name, names))
    twice, times = Counter(plain).most_common(1)[0]
    if times > 1 or not all(plain):
        raise DataError(f"{path} declares the class {twice!r} {times} times: expected each once")
    return plain


def _labelled(
    rows: Sequence[_Row], columns: ImageColumns, origin: Path
) -> tuple[list[_Row], tuple[str, ...]]:
    """The rows without those splits whose labels were withheld, with a note on these."""
    bare = [row for row in rows if _is_bare(row.label, columns)]
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


def _is_bare(label: Any, columns: ImageColumns) -> bool:
    # Hugging Face writes -1 where the labels of a contest are withheld.
    if label is None or (columns.class_names and isinstance(label, int) and label == -1):
        return True
    return isinstance(label, str) and is_missing(label)


def _targets(
    rows: Sequence[_Row], columns: ImageColumns, origin: Path
) -> tuple[Targets, tuple[str, ...], tuple[str, ...]]:
    """The labels as positions or as a matrix, the class names in order, and notes."""
    each = [row.label if columns.are_several else [row.label] for row in rows]
    flat = [label for labels in each for label in labels]
    owner = np.repeat(np.arange(len(rows)), [len(labels) for labels in each])
    if columns.class_names is None:
        _require_kind(flat, origin)
        found = list_classes([str(label) for label in flat])
    else:
        owners = [rows[number] for number in owner.tolist()]
        found = _declared_classes(flat, owners, columns.class_names)
    if not columns.are_several:
        return found.labels, found.names, found.notes
    matrix = np.zeros((len(rows), len(found.names)), dtype=np.bool_)
    matrix[owner, found.labels] = True
    return matrix, found.names, found.notes


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
    odd = next((label for label in labels if not isinstance(label, str | int)), None)
    if odd is not None:
        raise DataError(f"{origin} has labels such as {odd!r:.60}: expected whole numbers or names")


def _ids(rows: Sequence[_Row]) -> list[str]:
    """The paths, where each row has one of its own, so that an image stays in its split."""
    paths = [row.path for row in rows]
    if all(paths) and len(set(paths)) == len(paths):
        return paths
    return [f"{row.shard.name}/{row.cell.name}" for row in rows]
