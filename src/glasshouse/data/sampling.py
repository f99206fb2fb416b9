"""Which images an epoch uses, and in which order: each image once, or each class equally often.

Everything is a pure function of (seed, epoch, image ids), so that a resumed run sees the same
images as an uninterrupted one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.targets import Targets, one_label_each
from glasshouse.rng import Keys, permutation
from glasshouse.settings import Sampling

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Draws:
    """The images of an epoch, in order.

    positions ``(n,)`` in the set. showings ``(n,)``: how often each image was shown before. In all
    randomness of an image it takes the place of the epoch, so that repetitions differ.
    """

    positions: Positions
    showings: Positions


def draw_epoch(keys: Keys, targets: Targets, sampling: Sampling, *, seed: int, epoch: int) -> Draws:
    """Draw as many images as the set has, in random order.

    shuffle: each image once. balanced: each class equally often, to within one draw, over an epoch
    and over the run; within a class, all images are used once before any is repeated. Raises
    DataError for it where images may have several labels.
    """
    if sampling == "shuffle":
        order = permutation(seed, "order", epoch, keys)
        return Draws(order, np.full(len(order), epoch, dtype=np.int64))
    labels = one_label_each(targets)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    drawn = [
        _draw_class(keys, own, _turns(len(keys), epoch, place, len(members)), seed)
        for place, own in enumerate(members)
    ]
    positions, showings = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    order = permutation(seed, "order", showings, keys[positions])
    return Draws(positions[order], showings[order])


def _turns(count: int, epoch: int, place: int, classes: int) -> range:
    """The draws of a class, counted over the whole run, that fall into an epoch.

    Draws go round the classes in turn, so that draw d of the run belongs to class d modulo classes.
    """
    first, last = (-((place - drawn) // classes) for drawn in (epoch * count, (epoch + 1) * count))
    return range(first, last)


def _draw_class(keys: Keys, own: Positions, turns: range, seed: int) -> tuple[Positions, Positions]:
    """Positions and showings of these draws of a class, which is reshuffled for each pass."""
    count = len(own)
    passes = np.arange(turns.start // count, -(-turns.stop // count))
    positions, showings = np.tile(own, len(passes)), np.repeat(passes, count)
    order = permutation(seed, "sampling", showings, keys[positions])
    # Stable: the passes in order, each keeping its own random order.
    order = order[np.argsort(showings[order], kind="stable")]
    skipped = turns.start % count
    chosen = order[skipped : skipped + len(turns)]
    return positions[chosen], showings[chosen]
