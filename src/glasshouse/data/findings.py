"""What a check finds, and the images of a source seen as one row."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet, Splits

Level = Literal["error", "warning", "info"]

LEVELS: tuple[Level, ...] = ("error", "warning", "info")
PARTS = ("train", "validation", "test")
TEST = PARTS.index("test")
_NAMED = 4


@dataclass(frozen=True)
class Finding:
    """One observation on the images of a source.

    kind: its name for programs, such as "leaked-copies". level: error, figures would be wrong;
    warning, they may mislead; info, what there is. ids: the images, or the files, that it is
    about; reasons: why, one for each file, where they are bad. groups: ids of images that belong
    side by side, the plainest first.
    """

    kind: str
    level: Level
    title: str
    detail: str
    ids: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    reasons: tuple[str, ...] = ()


def names_of(group: tuple[str, ...]) -> str:
    """The first of a group's images in words: ``a = b = c = d and 7 more``."""
    more = len(group) - _NAMED
    return " = ".join(group[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


@dataclass(frozen=True)
class Everything:
    """All images of a source, one part after the other: ids, labels and parts ``(n,)``.

    parts: positions in PARTS. sizes: int32 ``(n, 2)`` where the source has files.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    parts: NDArray[np.int64]
    sizes: NDArray[np.int32] | None

    def __len__(self) -> int:
        return len(self.labels)


def everything(splits: Splits) -> Everything:
    """The three parts one after the other."""
    sets = list(parts_of(splits).values())
    sizes = [images.sizes for images in sets if images.sizes is not None]
    return Everything(
        np.concatenate([images.ids for images in sets]),
        np.concatenate([images.labels for images in sets]),
        np.repeat(np.arange(len(sets)), [len(images) for images in sets]),
        np.concatenate(sizes) if len(sizes) == len(sets) else None,
    )


def parts_of(splits: Splits) -> dict[str, ImageSet]:
    """The parts by their names."""
    return dict(zip(PARTS, (splits.train, splits.validation, splits.test), strict=True))


def counts_of(images: ImageSet) -> dict[str, int]:
    """How many images each class has."""
    counts = np.bincount(images.labels, minlength=len(images.class_names)).tolist()
    return dict(zip(images.class_names, counts, strict=True))
