"""Which images per epoch shows, and in what order: each one once, or every class equally often.

Everything is a pure function of (seed, epoch, image ids), so that a run that is gone on with sees
what it would have seen.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.rng import Keys, permutation
from glasshouse.settings import Sampling

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Draws:
    """The images of an epoch in order.

    positions ``(n,)`` in the set. showings ``(n,)``: how often each was shown before, which stands
    for the epoch in all randomness of an image, so that no two showings look alike.
    """

    positions: Positions
    showings: Positions


def draw_epoch(
    keys: Keys, labels: Positions, sampling: Sampling, *, seed: int, epoch: int
) -> Draws:
    """As many draws as there are images, in random order.

    shuffle: each image once. balanced: each class that has images equally often, to within one
    draw, over an epoch and over the run; within a class, every image comes once before any comes
    again.
    """
    if sampling == "shuffle":
        order = permutation(seed, "order", epoch, keys)
        return Draws(order, np.full(len(order), epoch, dtype=np.int64))
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    drawn = [
        _draw_class(keys, own, _turns(len(keys), epoch, place, len(members)), seed)
        for place, own in enumerate(members)
    ]
    positions, showings = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    order = permutation(seed, "order", showings, keys[positions])
    return Draws(positions[order], showings[order])


def _turns(count: int, epoch: int, place: int, classes: int) -> range:
    """Which draws of its class, counted over the run, fall into an epoch: classes take turns."""
    first, last = (-((place - drawn) // classes) for drawn in (epoch * count, (epoch + 1) * count))
    return range(first, last)


def _draw_class(keys: Keys, own: Positions, turns: range, seed: int) -> tuple[Positions, Positions]:
    """Positions and showings of these draws of a class, which is shuffled anew for each pass."""
    count = len(own)
    passes = np.arange(turns.start // count, -(-turns.stop // count))
    positions, showings = np.tile(own, len(passes)), np.repeat(passes, count)
    order = permutation(seed, "sampling", showings, keys[positions])
    # Pass after pass, each in the order that chance gave it.
    order = order[np.argsort(showings[order], kind="stable")]
    skipped = turns.start % count
    chosen = order[skipped : skipped + len(turns)]
    return positions[chosen], showings[chosen]
