"""The central type of this package: decoded images of one size, with labels and class names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.survey import Survey, survey
from glasshouse.errors import DataError
from glasshouse.notebook import html_for_notebook

Resize = Literal["crop", "letterbox", "stretch"]


@dataclass(frozen=True)
class ImageSet:
    """RGB images of one size, in memory or memory-mapped.

    pixels: uint8 ``(n, 3, h, w)``, not to be changed in place. labels: int64 ``(n,)``, positions in
    class_names.
    ids: str ``(n,)``, unique and stable (a path inside the source, or "train/00042").
    masks: bool ``(n, h, w)`` of the labelled object, only where the source knows it.
    sizes: int32 ``(n, 2)``, height and width of each image in its file, only for files.
    Raises DataError for fields of other types or lengths, and for labels without a class name.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: NDArray[np.str_]
    class_names: tuple[str, ...]
    masks: NDArray[np.bool_] | None = None
    sizes: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        # The only way to set a field of a frozen dataclass. A list would equal no other names.
        object.__setattr__(self, "class_names", tuple(self.class_names))
        _require_valid(self)

    def __len__(self) -> int:
        return len(self.labels)

    # From shapes alone: the fields' own text would read the pixels of a memory-mapped file.
    def __repr__(self) -> str:
        return (
            f"ImageSet({len(self):,} images of {self.height}x{self.width}, "
            f"{len(self.class_names)} classes)"
        )

    def _repr_html_(self) -> str:
        return html_for_notebook(self)

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
    files that were read in a way that their owner may not expect. narrow_files: ids and values of
    files that use few of the values that their type has. resize: how images that are not
    square were made square.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    bad_files: tuple[BadFile, ...] = ()
    notes: tuple[str, ...] = ()
    odd_files: tuple[OddFile, ...] = ()
    resize: Resize = "crop"
    narrow_files: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        splits = ("train", self.train), ("validation", self.validation), ("test", self.test)
        lines = [f"  {name}={images!r}," for name, images in splits]
        return "\n".join(["Splits(", *lines, f"  bad_files={len(self.bad_files)},", ")"])

    def _repr_html_(self) -> str:
        return html_for_notebook(self)

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


def take(images: ImageSet, positions: NDArray[np.int64] | Sequence[int] | slice) -> ImageSet:
    """The images at these positions, copied into memory; raises DataError outside of them."""
    everything = np.arange(len(images), dtype=np.int64)
    is_slice = isinstance(positions, slice)
    chosen = everything[positions] if is_slice else np.asarray(positions, dtype=np.int64)
    if len(chosen) and not -len(images) <= chosen.min() <= chosen.max() < len(images):
        raise DataError(
            f"take: expected positions from 0 to {len(images) - 1}, received {chosen.min()} to "
            f"{chosen.max()}"
        )
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


def _require_valid(images: ImageSet) -> None:
    """Raise DataError for what would fail later, far from where the images were made."""
    for name in ("pixels", "labels", "ids"):
        if not isinstance(getattr(images, name), np.ndarray):
            kind = type(getattr(images, name)).__name__
            raise DataError(f"{name}: expected a numpy array, received a {kind}; use np.array(...)")
    pixels, labels = images.pixels, images.labels
    if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.dtype != np.uint8:
        is_last = pixels.ndim == 4 and pixels.shape[3] == 3
        hint = "; move the channels with .transpose(0, 3, 1, 2)" if is_last else ""
        raise DataError(
            "pixels: expected uint8 (n, 3, height, width) with values 0 to 255, received "
            f"{pixels.dtype} {pixels.shape}{hint}"
        )
    for name, count in (("labels", labels.shape), ("ids", images.ids.shape)):
        if count != (len(pixels),):
            received = count[0] if len(count) == 1 else f"the shape {count}"
            raise DataError(f"{name}: expected {len(pixels)}, one per image; received {received}")
    if labels.dtype != np.int64:
        raise DataError(
            f"labels: expected integers (int64), received {labels.dtype}; use .astype('int64')"
        )
    known = len(images.class_names)
    if len(labels) and not 0 <= labels.min() <= labels.max() < known:
        raise DataError(
            f"labels: expected 0 to {known - 1}, the positions of {known} class names; received "
            f"{labels.min()} to {labels.max()}"
        )
