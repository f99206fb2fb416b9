"""Which images are held out, and which are kept of many, where an image may have several labels.

Stratified by label, rarest first, in the spirit of Sechidis et al. 2011 (iterative stratification);
but the hashed id decides wherever it may, so that images stay in their split.
"""

import math

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import DataError

Draws = NDArray[np.floating]
Matrix = NDArray[np.bool_]


def held_count(drawn: int, members: int, fraction: float, leave: int) -> int:
    """How many of a class are held out: as drawn, but at least half and at most twice the share."""
    share = fraction * members
    count = min(max(drawn, math.ceil(share / 2)), math.floor(2 * share) + 1)
    return min(count, max(0, members - leave))


def hold_out_by_labels(draws: Draws, matrix: Matrix, fraction: float, leave: int) -> Matrix:
    """True ``(n,)`` for the images held out: draws below the fraction, adjusted label by label.

    draws ``(n,)``: uniform in 0..1. matrix ``(n, k)``: the labels of each image. An image is moved
    for its rarest label only: moved again for a frequent one, it would undo that of the rare one.
    """
    held = draws < fraction
    sizes = matrix.sum(axis=0)
    is_settled = np.zeros(len(draws), dtype=np.bool_)
    for label in np.argsort(sizes, kind="stable"):
        members = np.flatnonzero(matrix[:, label])
        drawn = int(held[members].sum())
        excess = drawn - held_count(drawn, len(members), fraction, leave)
        free = members[~is_settled[members]]
        order = free[np.argsort(draws[free], kind="stable")]
        if excess > 0:
            held[order[held[order]][-excess:]] = False
        else:
            held[order[~held[order]][:-excess]] = True
        is_settled[members] = True
    return held


def limit_by_labels(draws: Draws, matrix: Matrix, count: int) -> NDArray[np.int64]:
    """Positions of count images in order, with at least one image of each label among them.

    A larger count includes the images of a smaller one. Raises DataError for a count below the
    number of labels.
    """
    present = np.flatnonzero(matrix.any(axis=0))
    if count < len(present):
        raise too_few(count, len(present))
    order = np.argsort(draws, kind="stable")
    # The first image of each label, then all others as they were drawn.
    firsts = np.unique([np.argmax(matrix[order, label]) for label in present]).astype(np.int64)
    rest = np.setdiff1d(np.arange(len(order)), firsts)
    return np.sort(order[np.concatenate([firsts, rest])[:count]])


def too_few(count: int, classes: int) -> DataError:
    """The error for fewer images than classes."""
    return DataError(
        f"data.train_limit is {count}, fewer than the {classes} classes: "
        "expected at least one image of each"
    )
