"""The section of a report on validation images that are unlike the training images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.evaluation.intervals import Interval, wilson_of
from glasshouse.report.html import Tile
from glasshouse.report.near_tiles import NearTile
from glasshouse.wording import percentage, pluralize


@dataclass(frozen=True)
class UnlikeRow:
    """A validation image; words: how unusual it is among the others. near: what it resembles."""

    id: str
    true: str
    predicted: str
    is_right: bool
    words: str
    image: Tile
    near: Sequence[NearTile]


@dataclass(frozen=True)
class UnlikeImages:
    """What a report says of the validation images that are most unlike the training images."""

    text: str
    rows: Sequence[UnlikeRow]


def unlike_text(
    is_unlike: NDArray[np.bool_], is_right: NDArray[np.bool_], *, can_tell: bool
) -> str:
    """How many validation images are unlike the training images, and how they are answered.

    is_unlike, is_right: of each image ``(n,)``. can_tell: whether there are enough for any to be
    unlike the others.
    """
    images = pluralize(len(is_unlike), "validation image")
    if not can_tell:
        return (
            f"{images} {'is' if len(is_unlike) == 1 else 'are'} too few to call one "
            "unlike the training images. The most unusual ones are shown, each with the training "
            "images that it resembles most."
        )
    count = int(is_unlike.sum())
    said = (
        f"{count:,} of {images} {'is' if count == 1 else 'are'} unlike the training images: fewer "
        "than 5 % of the others are as unusual. predict --unknown refuses an answer by the same "
        "rule, which holds for about 5 % of images like these."
    )
    if 0 < count < len(is_unlike):
        own, rest = (wilson_of(is_right[rows]) for rows in (is_unlike, ~is_unlike))
        if count == 1:
            said += f" It is answered {'right' if own.value else 'wrong'}"
        else:
            said += f" {_share(own)} of them are answered right"
        said += f", and {_share(rest)} of all others."
    return (
        f"{said} The most unusual ones are shown, each with the training images that it resembles "
        "most."
    )


def _share(found: Interval) -> str:
    return f"{percentage(found.value)} ({percentage(found.low)} to {percentage(found.high)})"
