"""Which columns a table of images has, and the labels that a row names in them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glasshouse.data.class_names import is_missing
from glasshouse.errors import DataError, nearest

# Between the labels of an image; a label with this character has a backslash before it.
SEPARATOR, _ESCAPED = "|", "\\|"
_BETWEEN = re.compile(r"(?<!\\)\|")
_TRUTH = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
_EXPECTED = (
    "expected path,label[,split] in the first row, or path,labels with '|' between the labels of "
    "an image, or a column of 0 and 1 for each label"
)


@dataclass(frozen=True)
class Columns:
    """Positions of the columns: one of label, labels and one_hot says what an image shows.

    one_hot: the position of each label by its name. width: of the header.
    """

    path: int
    split: int | None
    label: int | None
    labels: int | None
    width: int
    one_hot: dict[str, int] = field(default_factory=dict)

    @property
    def are_several(self) -> bool:
        """Whether an image may have several labels."""
        return self.label is None

    @property
    def positions(self) -> tuple[int, ...]:
        """The positions of all columns that are read, in ascending order."""
        single = (self.path, self.split, self.label, self.labels)
        known = [position for position in single if position is not None]
        return tuple(sorted([*known, *self.one_hot.values()]))


def columns_of(table: Path, header: Sequence[str]) -> Columns:
    """The columns by their names; raises DataError where it is not clear what an image shows."""
    names = [name.strip().lower() for name in header]
    place = {name: names.index(name) for name in ("path", "split", "label", "labels")
             if name in names}  # fmt: skip
    others = {name.strip(): n for n, name in enumerate(header) if n not in place.values()}
    is_one_hot = "path" in place and not {"label", "labels"} & place.keys() and len(others) > 1
    for wanted in ("path", "label"):
        if wanted not in place and not (wanted == "label" and ("labels" in place or is_one_hot)):
            found = ", ".join(header) or "nothing"
            near = nearest(wanted, names)
            hint = f" Did you mean '{near}'?" if near else ""
            raise DataError(f"{table} has no column '{wanted}': {_EXPECTED}; found {found}.{hint}")
    if {"label", "labels"} <= place.keys():
        raise DataError(
            f"{table} has both columns 'label' and 'labels': keep label where each image has one, "
            "labels where it may have several"
        )
    read = [name for name in names if name in place]
    if len(read) > len(place) or (is_one_hot and len(others) + len(place) != len(header)):
        raise DataError(
            f"{table} has two columns of the same name: {', '.join(header)}. Remove or rename the "
            "one that is not meant."
        )
    return Columns(
        path=place["path"],
        split=place.get("split"),
        label=place.get("label"),
        labels=place.get("labels"),
        width=len(header),
        one_hot=others if is_one_hot else {},
    )


class MissingLabel(ValueError):
    """A row without a label; the others are still read, to say how many there are."""


def labels_in(cells: Sequence[str], columns: Columns) -> tuple[str, ...]:
    """The labels of a row; raises ValueError that names the column."""
    if columns.one_hot:
        return tuple(name for name, at in columns.one_hot.items() if _is_set(name, cells, at))
    if columns.label is not None:
        text = _cell(cells, columns.label)
        if not text.strip():
            raise MissingLabel("column label: the cell is empty; fill it in, or remove the row")
        # White space around a label decides nothing, but is noted where labels differ by it.
        return (_known("label", text),)
    assert columns.labels is not None
    parts = (
        part.replace(_ESCAPED, SEPARATOR) for part in _BETWEEN.split(_cell(cells, columns.labels))
    )
    return tuple(dict.fromkeys(_known("labels", part) for part in parts if part.strip()))


def joined_labels(labels: Iterable[str]) -> str:
    """Labels of which none ends in a backslash, as a cell of the column labels has them."""
    return SEPARATOR.join(label.replace(SEPARATOR, _ESCAPED) for label in labels)


def _is_set(name: str, cells: Sequence[str], position: int) -> bool:
    text = _cell(cells, position).strip()
    if text.lower() not in _TRUTH:
        raise ValueError(
            f"column {name}: expected 0 or 1, as the table has no column 'label' or 'labels' and "
            f"each of its other columns is a label; received {text!r:.60}"
        )
    return _TRUTH[text.lower()]


def _known(name: str, label: str) -> str:
    if is_missing(label):
        raise MissingLabel(
            f"column {name}: '{label.strip()}' stands for a missing label; write the label, or "
            "remove the row"
        )
    return label


def _cell(cells: Sequence[str], position: int) -> str:
    return cells[position] if position < len(cells) else ""
