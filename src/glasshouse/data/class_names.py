"""From the labels of a source to its classes: one rule for folders and for tables.

A name is the label in Unicode normal form C without surrounding white space: macOS writes the same
name in another form than other systems, and neither difference can be seen. Numbers are ordered by
value, as tables of class indices are; all other names alphabetically, as other tools order folders.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from glasshouse.wording import first_of

# What programs write where a number or time is missing.
_MISSING = ("nan", "nat", "<na>", "#n/a")
# What they write for other values; people also name classes so ("none" for no defect).
_OFTEN_MISSING = (*_MISSING, "none", "null", "n/a", "(null)")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_WHOLE = re.compile(r"([+-]?\d+)(\.0+)?")
_SEPARATORS = re.compile(r"[\s_]+|(?<=[^\W\d])-(?=[^\W\d])")
_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")
_SHOWN = 5
# What Hugging Face and others write where a label is withheld.
NO_LABEL = "-1"


@dataclass(frozen=True)
class Classes:
    """The class names of a source in order, and the position in them of each label ``(n,)``.

    notes: sentences on labels that are written in several ways that cannot be told apart.
    """

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    notes: tuple[str, ...] = ()


def list_classes(labels: Sequence[str], unused: Iterable[str] = ()) -> Classes:
    """The classes of these labels, one per image; unused: labels that no image has."""
    written = dict.fromkeys([*labels, *unused])
    names = {label: normal_name(label) for label in written}
    whole = {label: _WHOLE.fullmatch(name) for label, name in names.items()}
    # A column of numbers with a missing value is stored as floats: "0.0" is the class "0".
    if all(whole.values()):
        names = {label: match[1] for label, match in whole.items() if match}
    ordered = _in_order(set(names.values()))
    position = {name: number for number, name in enumerate(ordered)}
    return Classes(
        names=ordered,
        labels=np.array([position[names[label]] for label in labels], dtype=np.int64),
        notes=_merged(names),
    )


def normal_name(label: str) -> str:
    """A label as the name of a class: Unicode normal form C, no white space around it."""
    return unicodedata.normalize("NFC", label).strip()


def is_missing(label: str) -> bool:
    """Whether a label is what programs write where there is none, such as "nan"."""
    return not label.strip() or label.strip().casefold() in _MISSING


def stands_for_none(labels: Iterable[str]) -> bool:
    """Whether -1 is among these labels and no class: all others are whole numbers from 0 on.

    Where only one other is left, -1 is the second class, as in a data set of -1 and 1.
    """
    found = set(labels)
    others = found - {NO_LABEL}
    return NO_LABEL in found and len(others) > 1 and all(map(str.isdecimal, others))


def often_missing(names: Iterable[str]) -> tuple[str, ...]:
    """The class names that may stand for a missing label, such as "none"."""
    return tuple(name for name in names if name.casefold() in _OFTEN_MISSING)


def similar_names(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of class names that differ in case, spaces, Unicode form or leading zeros only."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_appearance(name), []).append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def are_characters(names: Sequence[str]) -> bool:
    """Whether classes look like digits or letters, of which mirrored ones are others."""
    return len(names) > 1 and all(len(name) == 1 and name.isalnum() for name in names)


def describe_similar(groups: Sequence[tuple[str, ...]]) -> str:
    """What to do about groups of similar names, in one or two sentences."""
    shown = first_of([" and ".join(map(repr, group)) for group in groups], _SHOWN, "; ")
    return (
        f"{shown} differ in case, spaces, Unicode form or leading zeros only, but are "
        "different classes. If one class is meant, give it one name."
    )


def _in_order(names: set[str]) -> tuple[str, ...]:
    if all(_NUMBER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (Decimal(name), name)))
    return tuple(sorted(names))


def _appearance(name: str) -> str:
    """Equal for two names that a reader would take for the same class."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    # Format characters, such as a zero-width space, are invisible.
    plain = "".join(c for c in plain if unicodedata.category(c) != "Cf")
    return _ZEROS.sub("", _SEPARATORS.sub(" ", plain).strip())


def _merged(names: dict[str, str]) -> tuple[str, ...]:
    """A note on labels that are written differently and have become one class."""
    groups: dict[str, list[str]] = {}
    for label, name in names.items():
        groups.setdefault(name, []).append(label)
    several = [group for group in groups.values() if len(group) > 1]
    if not several:
        return ()
    shown = first_of([" and ".join(map(ascii, group)) for group in several], _SHOWN, "; ")
    return (f"Labels that differ in white space or notation only are one class: {shown}.",)
