"""What a check finds, and all images of a source as one table."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.alike_splits import require_alike_splits
from glasshouse.data.images import ImageSet, Splits
from glasshouse.data.targets import class_counts, combinations_of
from glasshouse.wording import first_of

Level = Literal["error", "warning", "info"]

# Most serious first.
LEVELS: tuple[Level, ...] = ("error", "warning", "info")
SPLIT_NAMES = ("train", "validation", "test")
TEST = SPLIT_NAMES.index("test")
_NAMED = 4


@dataclass(frozen=True)
class Finding:
    """One observation about the images of a source.

    kind: its name for programs, such as "leaked-duplicates". level: error, metrics would be wrong;
    warning, they may mislead; info, a fact worth knowing. ids: the images or files concerned;
    reasons: why, one per file, where files differ in it. groups: ids of images that belong
    together, the clearest case first. formula: the rule behind it, for readers who want to know.
    """

    kind: str
    level: Level
    title: str
    detail: str
    ids: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    reasons: tuple[str, ...] = ()
    formula: str = ""


def names_of(group: tuple[str, ...]) -> str:
    """The first images of a group in words: ``a = b = c = d and 7 more``."""
    return first_of(group, _NAMED, " = ")


@dataclass(frozen=True)
class AllImages:
    """All images of a source, one split after the other: ids, labels, split_numbers ``(n,)``.

    labels: equal numbers for images with the same label, or labels. split_numbers: positions in
    SPLIT_NAMES. sizes: int32 ``(n, 2)`` where the source has files.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    split_numbers: NDArray[np.int64]
    sizes: NDArray[np.int32] | None

    def __len__(self) -> int:
        return len(self.ids)


def all_images(splits: Splits) -> AllImages:
    """The three splits one after the other; raises DataError where they do not belong together."""
    require_alike_splits(splits.train, splits.validation, splits.test)
    sets = list(by_split(splits).values())
    sizes = [images.sizes for images in sets if images.sizes is not None]
    return AllImages(
        ids=np.concatenate([images.ids for images in sets]),
        labels=combinations_of(np.concatenate([images.targets for images in sets])),
        split_numbers=np.repeat(np.arange(len(sets)), [len(images) for images in sets]),
        sizes=np.concatenate(sizes) if len(sizes) == len(sets) else None,
    )


def by_split(splits: Splits) -> dict[str, ImageSet]:
    """The image sets by the names of their splits."""
    return dict(zip(SPLIT_NAMES, (splits.train, splits.validation, splits.test), strict=True))


def counts_of(images: ImageSet) -> dict[str, int]:
    """The number of images of each class."""
    counts = class_counts(images.targets, len(images.class_names)).tolist()
    return dict(zip(images.class_names, counts, strict=True))
