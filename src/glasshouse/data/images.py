"""The noun of this layer: images of one size, decoded, with labels, ids and class names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.survey import Survey, survey

Resize = Literal["crop", "letterbox", "stretch"]


@dataclass(frozen=True)
class ImageSet:
    """RGB images of one size, in memory or memory-mapped.

    pixels: uint8 ``(n, 3, h, w)``. labels: int64 ``(n,)``, positions in class_names.
    ids: str ``(n,)``, unique and stable (a path inside the source, or "train/00042").
    masks: bool ``(n, h, w)`` of the labelled object, only where the source knows it.
    sizes: int32 ``(n, 2)``, rows and columns of each image in its file, only for files.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: NDArray[np.str_]
    class_names: tuple[str, ...]
    masks: NDArray[np.bool_] | None = None
    sizes: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[2])

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.pixels.shape[3])

    # Kept outside the fields, so that `replace` with other pixels never keeps a stale survey.
    @cached_property
    def survey(self) -> Survey:
        """What one pass over the pixels finds: made at first use, then kept with this object."""
        return survey(self.pixels)


@dataclass(frozen=True)
class BadFile:
    """A file that could not be read as an image."""

    path: str
    reason: str


@dataclass(frozen=True)
class OddFile:
    """A file that was read, by the id of its image, and what is unusual about it."""

    id: str
    remark: str


@dataclass(frozen=True)
class Splits:
    """The three parts of a source; test is touched once, at the end.

    bad_files: what was left out. notes: plain sentences on how the parts were made. odd_files:
    what was read in a way that its owner may not expect, a file and a remark each. resize: how
    images that are not square were made so.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    bad_files: tuple[BadFile, ...] = ()
    notes: tuple[str, ...] = ()
    odd_files: tuple[OddFile, ...] = ()
    resize: Resize = "crop"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The same for all three parts."""
        return self.train.class_names


def with_survey(images: ImageSet, known: Survey) -> ImageSet:
    """The same images with the survey that their cache kept, so that no pass is needed."""
    surveyed = replace(images)
    # A frozen dataclass refuses assignment; this is where cached_property looks first.
    surveyed.__dict__["survey"] = known
    return surveyed


def take(images: ImageSet, positions: NDArray[np.int64] | Sequence[int]) -> ImageSet:
    """The images at these positions, copied into memory."""
    chosen = np.asarray(positions, dtype=np.int64)
    masks = None if images.masks is None else images.masks[chosen]
    sizes = None if images.sizes is None else images.sizes[chosen]
    return replace(
        images,
        pixels=np.ascontiguousarray(images.pixels[chosen]),
        labels=images.labels[chosen],
        ids=images.ids[chosen],
        masks=masks,
        sizes=sizes,
    )
