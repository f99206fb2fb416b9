"""Arrays as people have them, checked at once: pixels in any order of axes, labels as names."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasshouse.data.class_names import Classes, list_classes
from glasshouse.data.targets import Targets
from glasshouse.errors import DataError, did_you_mean

_EXPECTED = (
    "pixels: expected uint8 (n, 3, height, width) or (n, height, width, 3), or (n, height, width) "
    "in grey, with values 0 to 255"
)


def rgb_pixels(pixels: ArrayLike) -> NDArray[np.uint8]:
    """Pixels as uint8 ``(n, 3, h, w)``, a copy only where the order of the axes changes.

    pixels: ``(n, 3, h, w)``, ``(n, h, w, 3)``, or grey ``(n, h, w)``, ``(n, 1, h, w)`` or
    ``(n, h, w, 1)``. Raises DataError, with the expression that corrects it, for another type, an
    order that is ambiguous, and any other shape.
    """
    array = _as_array("pixels", pixels)
    if array.dtype != np.uint8:
        raise DataError(f"{_EXPECTED}; received {array.dtype} {array.shape}{bytes_hint(array)}")
    if array.ndim == 3 and array.shape[2] != 3:
        array = array[:, None]
    if array.ndim != 4 or 0 in array.shape[1:]:
        raise DataError(f"{_EXPECTED}; received {array.shape}{_shape_hint(array)}")
    first, last = array.shape[1] in (1, 3), array.shape[3] in (1, 3)
    if first and last:
        raise DataError(
            f"pixels: the shape {array.shape} may mean channels first or channels last: pass the "
            "pixels as (n, 3, height, width) to ImageSet(...), which takes no other order"
        )
    if last:
        array = array.transpose(0, 3, 1, 2)
    elif not first:
        raise DataError(f"{_EXPECTED}; received {array.shape}{_shape_hint(array)}")
    rgb = np.broadcast_to(array, (len(array), 3, *array.shape[2:]))
    return np.ascontiguousarray(rgb)


def named_targets(
    labels: ArrayLike, class_names: Sequence[str] | None
) -> tuple[Targets, tuple[str, ...]]:
    """The targets and class names of labels: positions in class_names, names, or truth values.

    Truth values are bool ``(n, k)``: which labels each image has.

    Without class_names, positions are named by their number, and names are ordered as in a folder.
    Raises DataError for labels of another type or shape, or outside of class_names.
    """
    _require_distinct(class_names or ())
    array = _as_array("labels", labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype == np.bool_:
        return array.astype(np.bool_), _names(class_names, array.shape[1])
    if array.ndim != 1:
        hint = (
            "; for one label in each row pass labels.argmax(1), for any number of labels "
            "labels.astype(bool)"
        )
        raise DataError(
            f"labels: expected one per image (n,), received {array.dtype} {array.shape}"
            f"{hint if array.ndim == 2 else ''}"
        )
    if array.dtype.kind in "UO" and all(isinstance(each, str) for each in array.tolist()):
        classes = _classes(array.tolist(), class_names)
        return classes.labels, classes.names
    if array.dtype.kind not in "iub" or (array.dtype.kind == "u" and array.max(initial=0) >> 62):
        raise DataError(
            f"labels: expected whole numbers or names, received {array.dtype}; use "
            ".astype('int64') if they are positions of classes"
        )
    positions = array.astype(np.int64)
    if len(positions) and positions.min() < 0:
        raise DataError(f"labels: expected 0 or more, received {positions.min()}")
    return positions, _names(class_names, int(positions.max(initial=-1)) + 1)


def bytes_hint(array: NDArray[np.generic], name: str = "pixels") -> str:
    """How to make uint8 of these values, where their range says so; empty where it does not.

    name: what the expression that does so calls the array.
    """
    if array.dtype == np.bool_:
        return f"; use 255 * {name}.astype('uint8')"
    if array.dtype.kind not in "fiu" or array.dtype == np.uint8 or not array.size:
        return ""
    if not np.isfinite(array).all():
        return " with values that are infinite or not numbers; replace them first"
    low, high = float(np.min(array)), float(np.max(array))
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return f"; values 0 to 1 become 0 to 255 with (255 * {name}).round().astype('uint8')"
    if low >= 0 and high <= 255:
        rounded = ".round()" if array.dtype.kind == "f" else ""
        return f"; its values fit: use {name}{rounded}.astype('uint8')"
    if array.dtype == np.uint16:
        return f"; 16-bit values become 0 to 255 with ({name} // 257).astype('uint8')"
    return (
        f" with values {low:.4g} to {high:.4g}; undo the normalisation or scaling first, since "
        "Glasshouse preprocesses images itself"
    )


def _as_array(name: str, given: ArrayLike) -> NDArray[np.generic]:
    try:
        return np.asarray(given)
    # What NumPy raises for rows of different lengths, and torch for a tensor on a GPU.
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{name}: cannot be made one array of one shape ({reason})") from error


def _require_distinct(class_names: Sequence[str]) -> None:
    names = list(class_names)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(
            f"class_names: expected each name once, received {twice!r} {names.count(twice)} times: "
            "answers could not be told apart. Pass other names with class_names"
        )


def _names(class_names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    return tuple(str(i) for i in range(count)) if class_names is None else tuple(class_names)


def _classes(labels: list[str], class_names: Sequence[str] | None) -> Classes:
    if class_names is None:
        return list_classes(labels)
    position = {name: number for number, name in enumerate(class_names)}
    for label in labels:
        if label not in position:
            raise DataError(f"labels: no class {label!r}. {did_you_mean(label, position)}")
    found = np.array([position[label] for label in labels], dtype=np.int64)
    return Classes(tuple(class_names), found)


def _shape_hint(array: NDArray[np.generic]) -> str:
    """What to write for a shape whose meaning can be told."""
    shape = array.shape
    if len(shape) == 3:
        return "; a single image is pixels[None]"
    if len(shape) == 2:
        return "; for rows of flattened images use .reshape(n, 3, height, width)"
    if len(shape) != 4:
        return ""
    if shape[1] == 4:
        return "; leave transparency out with pixels[:, :3]"
    if shape[3] == 4:
        return "; leave transparency out with pixels[..., :3]"
    if shape[2] in (1, 3):
        return "; move the images to the front with .transpose(3, 2, 0, 1)"
    return ""
