"""The central type of this package: decoded images of one size, with labels and class names."""

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

    pixels: uint8 ``(n, 3, h, w)``, not to be changed in place. labels: int64 ``(n,)``, positions in
    class_names.
    ids: str ``(n,)``, unique and stable (a path inside the source, or "train/00042").
    masks: bool ``(n, h, w)`` of the labelled object, only where the source knows it.
    sizes: int32 ``(n, 2)``, height and width of each image in its file, only for files.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: NDArray[np.str_]
    class_names: tuple[str, ...]
    masks: NDArray[np.bool_] | None = None
    sizes: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    # From shapes alone: the fields' own text would read the pixels of a memory-mapped file.
    def __repr__(self) -> str:
        return (
            f"ImageSet({len(self):,} images of {self.height}x{self.width}, "
            f"{len(self.class_names)} classes)"
        )

    @property
    def height(self) -> int:
        """Height of the images in pixels."""
        return int(self.pixels.shape[2])

    @property
    def width(self) -> int:
        """Width of the images in pixels."""
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
    """The id of an image whose file was read, and what is unusual about the file."""

    id: str
    remark: str


@dataclass(frozen=True)
class Splits:
    """The training, validation and test split of a source; test is used once, at the end.

    bad_files: files that were skipped. notes: sentences on how the splits were made. odd_files:
    files that were read in a way that their owner may not expect. resize: how images that are not
    square were made square.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    bad_files: tuple[BadFile, ...] = ()
    notes: tuple[str, ...] = ()
    odd_files: tuple[OddFile, ...] = ()
    resize: Resize = "crop"

    def __repr__(self) -> str:
        splits = ("train", self.train), ("validation", self.validation), ("test", self.test)
        lines = [f"  {name}={images!r}," for name, images in splits]
        return "\n".join(["Splits(", *lines, f"  bad_files={len(self.bad_files)},", ")"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, which all three splits share."""
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
