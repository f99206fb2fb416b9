"""Exchanges of a possible shortcut between classes, each with an exchange that changes as much."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet
from glasshouse.explanation.shortcuts.class_cues import ClassCues
from glasshouse.explanation.shortcuts.interventions import (
    compress,
    replace_place,
    shift,
)
from glasshouse.explanation.shortcuts.places import Place
from glasshouse.rng import keys_of, uniforms

TINT = "overall colour"
Kind = Literal["place", "pattern", "tint", "compression", "background"]
Pixels = NDArray[np.uint8]
Rows = NDArray[np.int64]

# Qualities that differ by less look the same.
_SAME_QUALITY = 5


@dataclass(frozen=True)
class Donors:
    """For each image: another image of its class, and one of another class.

    same, other ``(n,)``: positions; classes ``(n,)``: the class of the other one.
    """

    same: Rows
    other: Rows
    classes: Rows


@dataclass(frozen=True)
class Exchange:
    """One possible shortcut, given to images as another class has it.

    changed: the images with it; control: the images with a change of the same size that does not
    make them like another class; None where the classes that answers move to are compared instead.
    rows ``(n,)``: where there is anything to exchange. controls: equal places.
    """

    name: str
    kind: Kind
    changed: Callable[[], Pixels]
    control: Callable[[], Pixels] | None
    rows: NDArray[np.bool_]
    controls: tuple[str, ...] = ()


def choose_donors(images: ImageSet, seed: int = 0) -> Donors:
    """A pseudo-random donor of each kind for each image; every class needs two images."""
    labels = images.labels
    draws = uniforms(seed, "shortcut donors", 0, keys_of(images.ids), 3)
    present = np.unique(labels)
    own_place = np.searchsorted(present, labels)
    # One of the other classes, all with the same probability.
    step = 1 + (draws[:, 0] * (len(present) - 1)).astype(np.int64)
    classes = present[(own_place + step) % len(present)]
    same, other = np.zeros(len(labels), np.int64), np.zeros(len(labels), np.int64)
    for label in present:
        rows = np.flatnonzero(labels == label)
        takers = np.flatnonzero(classes == label)
        other[takers] = rows[(draws[takers, 1] * len(rows)).astype(np.int64)]
        # A step of at least one, so that no image is its own donor.
        jump = 1 + (draws[rows, 2] * (len(rows) - 1)).astype(np.int64)
        same[rows] = rows[(np.arange(len(rows)) + jump) % len(rows)]
    return Donors(same, other, classes)


def exchanges(
    images: ImageSet, cues: ClassCues, donors: Donors, places: tuple[Place, ...]
) -> Iterator[Exchange]:
    """All exchanges of these images; images are made when they are asked for."""
    yield from (_place(images, donors, place) for place in places)
    yield _pattern(images, cues, donors)
    yield _tint(images, cues, donors)
    if images.masks is not None:
        yield _background(images, donors)
    if len(set(cues.qualities.tolist())) > 1:
        yield _compression(images, cues, donors)


def _place(images: ImageSet, donors: Donors, place: Place) -> Exchange:
    pixels = images.pixels
    return Exchange(
        name=place.name,
        kind="place",
        changed=lambda: replace_place(pixels, pixels[donors.other], place.mask),
        control=lambda: replace_place(pixels, pixels[donors.same], place.mask),
        rows=np.ones(len(images), dtype=bool),
        controls=place.controls,
    )


def _pattern(images: ImageSet, cues: ClassCues, donors: Donors) -> Exchange:
    """The fine detail of the mean image of a class; the control has it in another place."""
    size = images.height // 2, images.width // 2

    def moved(by: tuple[int, int]) -> Pixels:
        patterns = np.roll(cues.patterns, by, axis=(2, 3))
        return shift(images.pixels, patterns[donors.classes] - patterns[images.labels])

    everywhere = np.ones(len(images), dtype=bool)
    return Exchange(
        "fixed pattern", "pattern", lambda: moved((0, 0)), lambda: moved(size), everywhere
    )


def _tint(images: ImageSet, cues: ClassCues, donors: Donors) -> Exchange:
    """The mean colour of a class; the control is the same step in the opposite direction."""
    step = (cues.colours[donors.classes] - cues.colours[images.labels])[:, :, None, None]
    return Exchange(
        name=TINT,
        kind="tint",
        changed=lambda: shift(images.pixels, step),
        control=lambda: shift(images.pixels, -step),
        rows=np.ones(len(images), dtype=bool),
    )


def _background(images: ImageSet, donors: Donors) -> Exchange:
    """What surrounds the object; where the donor's own object was, there is its mean colour."""
    assert images.masks is not None
    masks = images.masks

    def behind(rows: Rows) -> Pixels:
        others, theirs = images.pixels[rows].astype(np.float32), masks[rows][:, None]
        outside = np.maximum((~theirs).sum(axis=(2, 3)), 1)
        colours = (others * ~theirs).sum(axis=(2, 3)) / outside
        filled = np.where(theirs, np.rint(colours)[:, :, None, None], others).astype(np.uint8)
        return replace_place(images.pixels, filled, ~masks)

    return Exchange(
        name="background",
        kind="background",
        changed=lambda: behind(donors.other),
        control=lambda: behind(donors.same),
        rows=np.ones(len(images), dtype=bool),
    )


def _compression(images: ImageSet, cues: ClassCues, donors: Donors) -> Exchange:
    """The JPEG quality of a class; only from better to worse, since nothing can be restored."""
    own, wanted = cues.qualities[images.labels], cues.qualities[donors.classes]
    rows = wanted < own - _SAME_QUALITY

    def compressed() -> Pixels:
        found = np.array(images.pixels)
        for quality in np.unique(wanted[rows]):
            some = rows & (wanted == quality)
            found[some] = compress(images.pixels[some], int(quality))
        return found

    return Exchange("JPEG compression", "compression", compressed, None, rows)


def alike(cues: ClassCues, donors: Donors) -> NDArray[np.bool_]:
    """Which classes are compressed like the donor's class, ``(n, k)``."""
    wanted = cues.qualities[donors.classes]
    close: NDArray[np.bool_] = np.abs(cues.qualities[None, :] - wanted[:, None]) <= _SAME_QUALITY
    return close
