"""The central type of this package: decoded images of one size, with labels and class names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasshouse.data.arrays import bytes_hint, named_targets, rgb_pixels
from glasshouse.data.survey import Survey, survey
from glasshouse.data.targets import (
    Targets,
    is_matrix,
    joined_names,
    label_matrix,
    names_at,
    one_label_each,
)
from glasshouse.errors import DataError, type_words
from glasshouse.notebook import html_for_notebook

Resize = Literal["crop", "letterbox", "stretch"]


@dataclass(frozen=True)
class ImageSet:
    """RGB images of one size, in memory or memory-mapped.

    pixels: uint8 ``(n, 3, h, w)``, not to be changed in place. targets: one label per image, int64
    ``(n,)``, positions in class_names; or any number of labels per image, bool ``(n, k)``.
    ids: str ``(n,)``, unique and stable (a path inside the source, or "train/00042").
    masks: bool ``(n, h, w)`` of the labelled object, or ``(n, k, h, w)`` of the object of each
    label, only where the source knows it.
    sizes: int32 ``(n, 2)``, height and width of each image in its file, only for files.
    Raises DataError for fields of other types or lengths, and for labels without a class name.
    """

    pixels: NDArray[np.uint8]
    targets: Targets
    ids: NDArray[np.str_]
    class_names: tuple[str, ...]
    masks: NDArray[np.bool_] | None = None
    sizes: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        # The only way to set a field of a frozen dataclass. A list would equal no other names.
        object.__setattr__(self, "class_names", tuple(self.class_names))
        _require_valid(self)

    def __len__(self) -> int:
        return len(self.targets)

    # From shapes alone: the fields' own text would read the pixels of a memory-mapped file.
    def __repr__(self) -> str:
        return (
            f"ImageSet({len(self):,} images of {self.height}x{self.width}, "
            f"{len(self.class_names)} {'labels' if self.is_multi_label else 'classes'})"
        )

    def _repr_html_(self) -> str:
        return html_for_notebook(self)

    @classmethod
    def from_arrays(
        cls,
        pixels: ArrayLike,
        labels: ArrayLike,
        class_names: Sequence[str] | None = None,
        *,
        ids: Sequence[str] | None = None,
    ) -> "ImageSet":
        """An image set of arrays as other libraries return them, checked at once.

        pixels: uint8 ``(n, 3, h, w)``, ``(n, h, w, 3)``, or grey ``(n, h, w)``. labels: positions
        in class_names, or names, ``(n,)``; or bool ``(n, k)``, which labels each image has.
        class_names: unset: the names in order, or numbers. ids: unset: the position of each image.
        Raises DataError, with the expression that corrects it, for another order, type or shape.
        """
        rows = rgb_pixels(pixels)
        targets, known = named_targets(labels, class_names)
        names = [f"{i:07d}" for i in range(len(rows))] if ids is None else [str(i) for i in ids]
        return cls(rows, targets, np.array(names, dtype=np.str_), known)

    @property
    def is_multi_label(self) -> bool:
        """Whether an image may have any number of labels, rather than exactly one."""
        return is_matrix(self.targets)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The only label of each image, ``(n,)``; raises DataError where there may be several."""
        return one_label_each(self.targets)

    @property
    def label_matrix(self) -> NDArray[np.bool_]:
        """Which labels each image has, ``(n, k)``."""
        return label_matrix(self.targets, len(self.class_names))

    def rows_with(self, label: int) -> NDArray[np.int64]:
        """Positions of the images that have this label, by its position in class_names."""
        own = self.targets[:, label] if self.is_multi_label else self.targets == label
        return np.flatnonzero(own)

    def label_text(self, row: int) -> str:
        """The label of an image by name; several with commas between them."""
        return joined_names(names_at(self.targets, row, self.class_names))

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


def with_class_order(images: ImageSet, class_names: Sequence[str]) -> ImageSet:
    """The same images with these classes, of which they may lack some; unchanged with others.

    Images with several labels each have to know them all: one without a column is not known to be
    absent.
    """
    order, own = tuple(class_names), images.class_names
    if order == own or not set(own) <= set(order):
        return images
    if not images.is_multi_label:
        new_places = np.array([order.index(name) for name in own], dtype=np.int64)
        return replace(images, targets=new_places[images.labels], class_names=order)
    if len(own) < len(order):
        return images
    old_places = [own.index(name) for name in order]
    masks = None if images.masks is None else images.masks[:, old_places]
    return replace(images, targets=images.targets[:, old_places], class_names=order, masks=masks)


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
        targets=images.targets[chosen],
        ids=images.ids[chosen],
        masks=masks,
        sizes=sizes,
    )


def images_by_id(images: ImageSet, ids: Iterable[str]) -> dict[str, NDArray[np.uint8]]:
    """The images ``(3, h, w)`` with these ids, copied into memory; those that there are."""
    wanted = set(ids)
    rows = (row for row, name in enumerate(images.ids.tolist()) if name in wanted)
    return {str(images.ids[row]): np.array(images.pixels[row]) for row in rows}


def _require_valid(images: ImageSet) -> None:
    """Raise DataError for what would fail later, far from where the images were made."""
    for name in ("pixels", "targets", "ids"):
        if not isinstance(getattr(images, name), np.ndarray):
            kind = type_words(getattr(images, name))
            raise DataError(f"{name}: expected a numpy array, received {kind}; use np.array(...)")
    pixels = images.pixels
    if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.dtype != np.uint8:
        is_last = pixels.ndim == 4 and pixels.shape[3] == 3
        hint = "; move the channels with .transpose(0, 3, 1, 2)" if is_last else bytes_hint(pixels)
        raise DataError(
            "pixels: expected uint8 (n, 3, height, width) with values 0 to 255, received "
            f"{pixels.dtype} {pixels.shape}{hint}"
        )
    _require_lengths(images)
    if images.is_multi_label:
        _require_matrix(images)
    else:
        _require_positions(images)


def _require_lengths(images: ImageSet) -> None:
    count = len(images.pixels)
    for name, shape, dimensions in (
        ("targets", images.targets.shape, (1, 2)),
        ("ids", images.ids.shape, (1,)),
    ):
        if len(shape) not in dimensions or shape[0] != count:
            received = shape[0] if len(shape) == 1 else f"the shape {shape}"
            raise DataError(f"{name}: expected {count}, one per image; received {received}")


def _require_matrix(images: ImageSet) -> None:
    """Raise DataError for several labels per image that are no matrix of truth values."""
    targets, known = images.targets, len(images.class_names)
    if targets.dtype != np.bool_ or targets.shape[1] != known:
        raise DataError(
            f"targets: expected bool (n, {known}), which of the {known} labels each image has; "
            f"received {targets.dtype} {targets.shape}; use .astype(bool)"
        )


def _require_positions(images: ImageSet) -> None:
    """Raise DataError for labels that are not positions of class names."""
    labels, known = images.targets, len(images.class_names)
    if labels.dtype != np.int64:
        raise DataError(
            f"targets: expected integers (int64), received {labels.dtype}; use .astype('int64')"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < known:
        raise DataError(
            f"targets: expected 0 to {known - 1}, the positions of {known} class names; received "
            f"{labels.min()} to {labels.max()}"
        )
