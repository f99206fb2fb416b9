"""Datasets of torch and of Hugging Face as image sets; neither library is imported."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PillowImage

from glasshouse.data.arrays import bytes_hint, rgb_pixels
from glasshouse.data.bit_depth import warn_of_narrow_images
from glasshouse.data.dataset_labels import row_targets, row_values
from glasshouse.data.decode import decode
from glasshouse.data.fitting import Resize, fit_to_size
from glasshouse.data.headers import decode_with_range
from glasshouse.data.images import ImageSet
from glasshouse.errors import BadImage, DataError, UsageError, type_words

_IMAGE_NAMES = ("image", "img", "images", "pixel_values", "pixels")
_LABEL_NAMES = ("label", "labels", "class", "target", "fine_label")
_ROW = "expected rows of an image and a label, as a pair or as a dict"


def from_dataset(
    dataset: Any,
    *,
    image_size: int | None = None,
    resize: Resize = "crop",
    class_names: Sequence[str] | None = None,
    image: str | None = None,
    label: str | None = None,
) -> ImageSet:
    """The images and labels of a torch or Hugging Face dataset, read once into memory.

    dataset: anything whose rows are (image, label) or dicts. An image is a Pillow image, uint8
    values (channels first or last), or what ToTensor made of them. image_size: side of the square
    that images are brought to, as resize says; unset: they must all have one size. A label is a
    number or a name; several are a list of them, or a vector of 0 and 1 for each class.
    class_names: unset, those that the dataset declares. image, label: columns of a dict; unset: the
    usual names.

    Raises UsageError for what is no such dataset and for columns that are not known, DataError,
    naming the row, for images of several sizes or with values whose range is a guess.
    """
    _require_dataset(dataset)
    pixels, labels, narrow = [], [], []
    columns = image, label
    for position, row in enumerate(_rows(dataset)):
        where = f"row {position}"
        columns = _columns(dataset, row, *columns)
        photo, answer = _pair(row, columns, where)
        upright, values = image_rows(photo, where)
        narrow += [(where, values)] if values else []
        if image_size is None:
            pixels.append(np.ascontiguousarray(upright.transpose(2, 0, 1)))
            _require_same_size(pixels, where)
        else:
            pixels.append(fit_to_size(upright, image_size, image_size, resize))
        labels.append(row_values(answer, where))
    if not pixels:
        raise DataError("the dataset has no rows: expected one image or more")
    warn_of_narrow_images(narrow)
    known = class_names if class_names is not None else declared_classes(dataset, columns[1])
    are_positions = _listed_label(_features(dataset).get(columns[1])) is not None
    targets, names = row_targets(labels, known, are_positions=are_positions)
    split = getattr(dataset, "split", None)
    prefix = "" if split is None else f"{split}/"
    ids = np.array([f"{prefix}{i:07d}" for i in range(len(labels))])
    return ImageSet(np.stack(pixels), targets, ids, names)


def image_rows(image: object, where: str) -> tuple[NDArray[np.uint8], str]:
    """One image as uint8 ``(h, w, 3)``, and the values of a Pillow image that has few levels.

    where: what errors call it. Raises DataError for values whose range is a guess, and BadImage for
    a file that is damaged.
    """
    if isinstance(image, PillowImage):
        return decode_with_range(image, name=where)
    if isinstance(image, Mapping) and {"bytes", "path"} & image.keys():
        # How Hugging Face stores an image that it was told not to decode.
        return decode(image.get("bytes") or image["path"], name=where), ""
    if isinstance(image, str | bytes):
        return decode(image, name=where if isinstance(image, bytes) else None), ""
    try:
        array = np.asarray(image)
    except (ValueError, TypeError, RuntimeError) as error:
        raise BadImage(where, f"cannot be read as an array ({error})") from error
    if array.dtype.kind == "f":
        array = _bytes_of(array, where)
    # Hugging Face's arrays arrive as lists, which have no type of their own.
    is_list = isinstance(image, list) and array.dtype.kind == "i"
    if is_list and array.size and array.min() >= 0 and 1 < array.max() <= 255:
        array = array.astype(np.uint8)
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise DataError(
            f"{where}: expected a Pillow image or uint8 values of one image, received a "
            f"{type(image).__name__}, {array.dtype} {array.shape}{bytes_hint(array)}"
        )
    pixels: NDArray[np.uint8] = rgb_pixels(array[None])[0].transpose(1, 2, 0)
    return pixels, ""


def declared_classes(dataset: Any, label: str | None) -> tuple[str, ...] | None:
    """The class names that a dataset declares, None where it does not."""
    features = _features(dataset)
    classes = {name: _listed_label(f) or f for name, f in features.items()}
    named = {name: f.names for name, f in classes.items() if getattr(f, "names", None)}
    # A transform may rename the column, which leaves the only names that there are.
    only = next(iter(named.values())) if len(named) == 1 and label not in features else None
    names = named.get(label, only) or getattr(dataset, "classes", None)
    if names:
        return tuple(str(name) for name in names)
    # What wraps other datasets: Subset, random_split and ConcatDataset of torch.
    inner = getattr(dataset, "dataset", None)
    parts = [inner] if inner is not None else list(getattr(dataset, "datasets", None) or ())
    declared = {declared_classes(part, label) for part in parts}
    if len(declared) > 1:
        raise UsageError(
            "the joined datasets declare different classes: expected the same in all of them, or "
            "class_names=[...]"
        )
    return next(iter(declared), None)


def _features(dataset: Any) -> Mapping[Any, Any]:
    """The columns that a Hugging Face dataset declares, by name."""
    return getattr(dataset, "features", None) or {}


def _listed_label(feature: object) -> Any:
    """The ClassLabel in a column of lists of labels, None for other columns."""
    inner = feature[0] if isinstance(feature, list) and feature else feature
    inner = getattr(feature, "feature", inner)
    return inner if inner is not feature and getattr(inner, "names", None) else None


def _require_dataset(dataset: Any) -> None:
    if isinstance(dataset, Mapping) and not hasattr(dataset, "__array__"):
        known = ", ".join(repr(name) for name in dataset)
        raise UsageError(
            f"expected one dataset, received several by name ({known}): pass one of them, such as "
            f"dataset[{next(iter(dataset), 'train')!r}]"
        )
    if hasattr(dataset, "batch_size") and hasattr(dataset, "dataset"):
        raise UsageError(
            "expected a dataset, received a DataLoader: pass from_dataset(loader.dataset) to read "
            "its images once, or train_classifier(..., batches=from_dataloader(loader))"
        )
    if not (hasattr(dataset, "__getitem__") or hasattr(dataset, "__iter__")):
        raise UsageError(
            f"expected a dataset with rows of an image and a label, received {type_words(dataset)}"
        )


def _rows(dataset: Any) -> Iterator[Any]:
    # By position where it has a length: iterating over a torch dataset that never raises
    # IndexError would not end.
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        return (dataset[position] for position in range(len(dataset)))
    return iter(dataset)


def _columns(
    dataset: Any, row: object, image: str | None, label: str | None
) -> tuple[str | None, str | None]:
    """The names of the two columns, (None, None) for rows that are pairs."""
    if not isinstance(row, Mapping):
        return image, label
    features = _features(dataset)
    kinds = {name: type(_listed_label(f) or f).__name__ for name, f in features.items()}
    return (
        image or _column(row, kinds, "Image", _IMAGE_NAMES, "image"),
        label or _column(row, kinds, "ClassLabel", _LABEL_NAMES, "label"),
    )


def _column(
    row: Mapping[str, Any], kinds: Mapping[str, str], kind: str, usual: Sequence[str], what: str
) -> str:
    """The only column of this type, or else the only one with a usual name."""
    typed = [name for name in row if kinds.get(name) == kind]
    found = typed if len(typed) == 1 else [name for name in usual if name in row]
    if len(found) == 1 or (found and found[0] == what):
        return found[0]
    raise UsageError(
        f"which column is the {what}? The rows have {', '.join(row)}: name it with {what}=..."
    )


def _pair(row: Any, columns: tuple[str | None, str | None], where: str) -> tuple[Any, Any]:
    image, label = columns
    if isinstance(row, Mapping):
        missing = [name for name in columns if name not in row]
        if missing:
            raise UsageError(f"{where}: no column {missing[0]!r}; it has {', '.join(row)}")
        return row[image], row[label]
    if isinstance(row, tuple | list) and len(row) == 2:
        return row[0], row[1]
    received = f"{len(row)} values" if isinstance(row, tuple | list) else type(row).__name__
    raise UsageError(f"{where}: {_ROW}; received {received}")


def _bytes_of(array: NDArray[np.floating[Any]], where: str) -> NDArray[Any]:
    """The 8-bit values that ToTensor divided by 255; others are no bytes and stay as they are."""
    scaled = array.astype(np.float64) * 255
    whole = np.rint(scaled)
    # Half precision keeps eleven bits, so a byte is found again within a tenth.
    is_exact = array.size and np.abs(scaled - whole).max() < 0.13
    if is_exact and whole.min() >= 0 and whole.max() <= 255:
        return whole.astype(np.uint8)
    if not np.isfinite(array).all():
        raise BadImage(where, "has values that are not finite")
    return array


def _require_same_size(pixels: Sequence[NDArray[np.uint8]], where: str) -> None:
    first, last = pixels[0].shape[1:], pixels[-1].shape[1:]
    if first != last:
        raise DataError(
            f"{where} has {last[0]}x{last[1]} pixels, and row 0 has {first[0]}x{first[1]}: bring "
            "them to one size with from_dataset(..., image_size=...)"
        )
