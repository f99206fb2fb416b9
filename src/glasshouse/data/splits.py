"""Which images are held out: those whose hashed id is below a threshold, class by class.

An image stays in its split when others are added or removed, so that test results of today can be
compared with those of next month. The price: the size of a split only approximates its fraction.
"""

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.label_splits import (
    held_count,
    hold_out_by_labels,
    limit_by_labels,
    too_few,
)
from glasshouse.data.targets import Targets, is_matrix, one_label_each
from glasshouse.rng import Keys, keys_of, uniforms

TRAINED_ON_VALIDATION = (
    "The validation images were trained on as well, as requested: metrics on them are too "
    "optimistic, and probabilities are not calibrated."
)

Ids = NDArray[np.str_]
Positions = NDArray[np.int64]


def hold_out(
    ids: Ids, targets: Targets, fraction: float, *, seed: int, purpose: str, leave: int = 1
) -> NDArray[np.bool_]:
    """True ``(n,)`` for the images held out, about the given fraction of each class.

    The hash alone decides, unless it gave a class less than half or more than twice its share:
    then the images closest to the threshold are moved. At least one image of each class is held
    out, but always at least `leave` of them remain. Where images have several labels, the same
    holds for each label, as far as the labels that occur together allow for it.
    """
    return _hold_out(keys_of(ids), targets, fraction, seed=seed, purpose=purpose, leave=leave)


def _hold_out(
    keys: Keys, targets: Targets, fraction: float, *, seed: int, purpose: str, leave: int
) -> NDArray[np.bool_]:
    # By purpose, so that the choice for validation is independent of that for test.
    draws = uniforms(seed, f"split {purpose}", 0, keys, 1)[:, 0]
    if is_matrix(targets):
        return hold_out_by_labels(draws, np.asarray(targets, dtype=np.bool_), fraction, leave)
    labels = one_label_each(targets)
    held = np.zeros(len(keys), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        drawn = int((draws[members] < fraction).sum())
        count = held_count(drawn, len(members), fraction, leave)
        # Within these bounds it is the plain threshold, so that no other image has an influence.
        held[members[np.argsort(draws[members], kind="stable")[:count]]] = True
    return held


def three_way_split(
    ids: Ids, targets: Targets, *, validation_fraction: float, test_fraction: float, seed: int
) -> tuple[Positions, Positions, Positions]:
    """Positions of train, validation and test; validation is a fraction of what test leaves.

    Every split has at least one image of each class that has three or more.
    """
    keys = keys_of(ids)  # once: of a million ids, they take half a second
    in_test = _hold_out(keys, targets, test_fraction, seed=seed, purpose="test", leave=2)
    rest = np.flatnonzero(~in_test)
    held = _hold_out(
        keys[rest], targets[rest], validation_fraction, seed=seed, purpose="validation", leave=1
    )
    return rest[~held], rest[held], np.flatnonzero(in_test)


def two_way_split(
    ids: Ids, targets: Targets, validation_fraction: float, *, seed: int
) -> tuple[Positions, Positions]:
    """Positions of train and validation."""
    held = hold_out(ids, targets, validation_fraction, seed=seed, purpose="validation")
    return np.flatnonzero(~held), np.flatnonzero(held)


def limit(ids: Ids, targets: Targets, count: int, *, seed: int) -> Positions:
    """Positions of count images in their original order, spread evenly over the classes.

    A larger count includes the images of a smaller one. Raises DataError for a count below the
    number of classes.
    """
    draws = uniforms(seed, "train limit", 0, keys_of(ids), 1)[:, 0]
    if is_matrix(targets):
        return limit_by_labels(draws, np.asarray(targets, dtype=np.bool_), count)
    labels = one_label_each(targets)
    classes, sizes = np.unique(labels, return_counts=True)
    if count < len(classes):
        raise too_few(count, len(classes))
    order = np.argsort(draws, kind="stable")
    chosen = [
        order[labels[order] == label][:share]
        for label, share in zip(classes, _shares(sizes, count), strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _shares(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Images per class: the highest common limit that the count allows, and the rest one by one."""
    # One of each class always fits.
    level = next(n for n in range(int(sizes.max()), 0, -1) if np.minimum(sizes, n).sum() <= count)
    shares = np.minimum(sizes, level)
    spare = count - int(shares.sum())
    larger = np.flatnonzero(sizes > level)[:spare]
    shares[larger] += 1
    return shares
