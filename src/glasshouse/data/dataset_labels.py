"""The labels of a dataset's rows: one each, or any number each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.arrays import named_targets
from glasshouse.data.targets import Targets
from glasshouse.errors import DataError

Values = NDArray[Any]


def row_values(label: Any, where: str) -> Values:
    """The labels of one row, ``()`` or ``(m,)``: whole numbers, names, or 0 and 1 of any type.

    where: what DataError calls the row.
    """
    try:
        value = np.asarray(label)
    except (ValueError, TypeError, RuntimeError):
        value = np.asarray(None)
    if value.size == 0:
        return np.empty(0, dtype=np.int64)
    is_single = value.size == 1
    kinds = "iubU" if is_single else "iubUf"
    is_hot = value.dtype.kind != "f" or bool(np.isin(value, (0, 1)).all())
    if value.dtype.kind not in kinds or not is_hot or (value.ndim > 1 and not is_single):
        raise DataError(
            f"{where}: expected one label, a whole number or a name, or for several labels a list "
            f"of them or a vector of 0 and 1; received {str(label)[:80]}"
        )
    if value.dtype.kind == "i" and value.min() < 0:
        raise DataError(f"{where}: the label is {value.min()}, which stands for a missing one")
    return value if value.ndim < 2 else value.reshape(-1)


def row_targets(
    rows: Sequence[Values], class_names: Sequence[str] | None, *, are_positions: bool
) -> tuple[Targets, tuple[str, ...]]:
    """The targets and class names of the labels of all rows, as `named_targets` has them.

    One label per image where every row has one. are_positions: the dataset declares lists of
    labels, of which a row may have any number. Raises DataError where numbers might be positions
    or a vector of 0 and 1.
    """
    _require_one_kind(rows)
    rows = [row.reshape(-1) for row in rows]
    if not are_positions:
        if all(len(row) == 1 for row in rows):
            single = [row[0] if row.dtype.kind == "U" else int(row[0]) for row in rows]
            return named_targets(np.array(single), class_names)
        if are_vectors(rows, class_names):
            return named_targets(np.stack(rows).astype(np.bool_), class_names)
        _require_positions(rows)
    filled = [row for row in rows if len(row)]
    if not filled and class_names is None:
        raise DataError("none of the rows has a label: expected class_names=[...]")
    flat = np.concatenate(filled) if filled else np.empty(0, dtype=np.int64)
    positions, names = named_targets(flat, class_names)
    matrix = np.zeros((len(rows), len(names)), dtype=np.bool_)
    matrix[np.repeat(np.arange(len(rows)), [len(row) for row in rows]), positions] = True
    return matrix, names


def _require_one_kind(rows: Sequence[Values]) -> None:
    """Raise DataError where some rows have a single label, and others several."""
    single = next((number for number, row in enumerate(rows) if row.ndim == 0), None)
    several = next((number for number, row in enumerate(rows) if row.size != 1), None)
    if single is not None and several is not None:
        raise DataError(
            f"row {several}: expected one label, as row {single} has it, or a list of labels in "
            f"every row; received {rows[several].tolist()}"
        )


def are_vectors(rows: Sequence[Values], class_names: Sequence[str] | None) -> bool:
    """Whether each row ``(m,)`` says yes or no for each class; raises DataError where in doubt."""
    length = len(rows[0])
    same = length > 1 and all(len(row) == length and row.dtype.kind != "U" for row in rows)
    if not same or not np.isin(np.stack(rows), (0, 1)).all():
        return False
    stacked = np.stack(rows)
    if stacked.dtype.kind in "bf" or length > 2 or (stacked[:, 0] == stacked[:, 1]).any():
        return True
    if class_names is not None and len(class_names) > 2:
        return False
    raise DataError(
        "the labels of each row are 0 and 1, in some order, which may be two positions or a "
        "vector of two classes: give a vector as bool"
    )


def _require_positions(rows: Sequence[Values]) -> None:
    for number, row in enumerate(rows):
        if row.dtype.kind in "bf" or len(np.unique(row)) < len(row):
            raise DataError(
                f"row {number}: expected different labels, or in every row a vector of 0 and 1, "
                f"one value for each class; received {row.tolist()}"
            )
