"""The labels of images: one each, as positions, or any number each, as a matrix of 0 and 1.

Both forms stay apart: `ImageSet.labels` and `Predictions.labels` refuse where an image may have
several labels, so that code that assumes one label cannot compute with others.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import DataError

# int64 (n,): the position of the only label of each image; bool (n, k): which labels it has.
Targets = NDArray[np.int64] | NDArray[np.bool_]

NO_LABEL = "no label"
SEVERAL = (
    "the images may have several labels each (a multi-label source), which this needs to be one "
    "label per image: use a folder of class folders, or a table with the column label"
)


def is_matrix(targets: Targets) -> bool:
    """Whether images may have several labels."""
    return targets.ndim == 2


def one_label_each(targets: Targets) -> NDArray[np.int64]:
    """Positions ``(n,)``; raises DataError where images may have several labels."""
    if is_matrix(targets):
        raise DataError(SEVERAL)
    return np.asarray(targets, dtype=np.int64)


def label_matrix(targets: Targets, class_count: int) -> NDArray[np.bool_]:
    """Which labels each image has, bool ``(n, k)``: one each where targets are positions."""
    if is_matrix(targets):
        return np.asarray(targets, dtype=np.bool_)
    matrix: NDArray[np.bool_] = targets[:, None] == np.arange(class_count)[None, :]
    return matrix


def class_counts(targets: Targets, class_count: int) -> NDArray[np.int64]:
    """The number of images of each class, ``(k,)``."""
    if is_matrix(targets):
        return np.asarray(targets.sum(axis=0), dtype=np.int64)
    return np.bincount(one_label_each(targets), minlength=class_count)


def combinations_of(targets: Targets) -> NDArray[np.int64]:
    """A number ``(n,)`` for each image, equal exactly for images with the same labels."""
    if not is_matrix(targets):
        return one_label_each(targets)
    packed = np.packbits(targets, axis=1)
    return np.unique(packed, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def has_any(targets: Targets, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each image has a label among the chosen ones ``(k,)``."""
    if is_matrix(targets):
        return np.asarray((targets & chosen).any(axis=1))
    return np.asarray(chosen[targets])


def names_at(targets: Targets, row: int, class_names: Sequence[str]) -> tuple[str, ...]:
    """The labels of one image by name, in the order of the classes; none where it has none."""
    if is_matrix(targets):
        return tuple(class_names[int(k)] for k in np.flatnonzero(targets[row]))
    return (class_names[int(targets[row])],)


def joined_names(names: Sequence[str]) -> str:
    """Labels as text: "cat, dog"; "no label" where there are none."""
    return ", ".join(names) or NO_LABEL


def rarest_labels(targets: Targets) -> NDArray[np.int64]:
    """For each image the rarest of its labels over all images, ``(n,)``; -1 where it has none."""
    if not is_matrix(targets):
        return one_label_each(targets)
    sizes = np.where(targets, targets.sum(axis=0), len(targets) + 1)
    rarest = sizes.argmin(axis=1)
    return np.where(targets.any(axis=1), rarest, -1).astype(np.int64)
