"""What a user may pass as images, in one place: files, Pillow images, arrays and image sets."""

from collections.abc import Iterable, Iterator
from os import PathLike, fspath
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PillowImage, fromarray

from glasshouse.data.arrays import bytes_hint
from glasshouse.data.bit_depth import warn_of_narrow_images
from glasshouse.data.decode import Pixels, decode_opened
from glasshouse.data.headers import decode_file, decode_with_range
from glasshouse.data.images import ImageSet
from glasshouse.errors import BadImage, DataError
from glasshouse.models.preprocessing import Preprocessing, preprocess

OneImage = str | PathLike[str] | PillowImage | NDArray[np.uint8]
Images = OneImage | Iterable[OneImage] | ImageSet

_EXPECTED = (
    "expected the path of an image file, a PIL image, a uint8 array (height, width, 3), "
    "a list of these, or an ImageSet"
)
_NONE = "expected one image or more, received none"


def as_given(images: Images) -> Images:
    """The same images, to be used more than once: what a glob yields becomes a list."""
    return list(images) if isinstance(images, Iterator) else images


def image_pixels(images: Images, preprocessing: Preprocessing) -> Pixels:
    """Images as the network takes them, uint8 ``(n, 3, height, width)``.

    images: as for `Classifier.predict`. Files, Pillow images and arrays ``(h, w)``, ``(h, w, 3)``
    and ``(h, w, 4)`` of any size are resized and cropped; pixels of an ImageSet, ``(3, h, w)`` or
    ``(n, 3, h, w)``, must have the network's size. Raises BadImage, naming the file, and DataError
    for anything else.
    """
    if isinstance(images, ImageSet):
        return of_network_size(images.pixels, preprocessing)
    if isinstance(images, np.ndarray) and images.ndim == 4:
        _require_bytes(images)
        # The channels are last in what Pillow and most other libraries return.
        if images.shape[1] == 3:
            return of_network_size(images, preprocessing)
    if isinstance(images, np.ndarray) and images.ndim == 3:
        _require_one_reading(images, preprocessing)
    given = _listed(images)
    return np.stack(
        [_prepared(each, preprocessing, f"image {position}") for position, each in enumerate(given)]
    )


def image_ids(images: Images) -> NDArray[np.str_]:
    """An id for each image ``(n,)``: its id in the set, its path, or its position."""
    if isinstance(images, ImageSet):
        return images.ids
    given = _listed(images)
    names = [
        fspath(each) if isinstance(each, str | PathLike) else f"image {position}"
        for position, each in enumerate(given)
    ]
    if len(set(names)) < len(names):
        names = [f"{name} ({position})" for position, name in enumerate(names)]
    return np.array(names, dtype=np.str_)


def _listed(images: Images) -> list[OneImage]:
    """One image or several as a list; raises DataError when there are none."""
    is_array = isinstance(images, np.ndarray) and images.ndim < 4
    # A path and an array are sequences themselves, of letters and of rows.
    if is_array or isinstance(images, str | PathLike | PillowImage):
        return [images]  # type: ignore[list-item]
    try:
        if isinstance(images, bytes | bytearray):
            raise TypeError  # They are a sequence of numbers, too.
        given: list[OneImage] = list(images)  # type: ignore[arg-type]
    except TypeError as error:
        raise DataError(f"{_EXPECTED}; received {_kind(images)}") from error
    if not given:
        raise DataError(_NONE)
    return given


def _prepared(image: OneImage, preprocessing: Preprocessing, name: str) -> Pixels:
    """name: what a warning calls what is not a file."""
    if isinstance(image, str | PathLike):
        return preprocess(_read(image), preprocessing)
    if isinstance(image, PillowImage):
        pixels, narrow = decode_with_range(image)
        warn_of_narrow_images([(name, narrow)] if narrow else [])
        return preprocess(pixels, preprocessing)
    if not isinstance(image, np.ndarray):
        raise DataError(f"{_EXPECTED}; received {_kind(image)}")
    _require_bytes(image)
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim == 3 and channels not in (3, 4) and image.shape[0] == 3:
        alone: Pixels = of_network_size(image[None], preprocessing)[0]
        return alone
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or not image.size:
        raise DataError(
            "expected an array of one image, uint8 (height, width, 3) or (height, width) with "
            f"values 0 to 255, received {_kind(image)}"
        )
    grey = image[:, :, 0] if image.ndim == 3 and channels == 1 else image
    # Pillow knows what grey and transparent values mean, as in a file.
    return preprocess(image if channels == 3 else decode_opened(fromarray(grey)), preprocessing)


def _require_one_reading(array: NDArray[np.generic], preprocessing: Preprocessing) -> None:
    """Raise DataError for ``(3, h, w)``, one image with channels first or three in grey.

    Of the network's own size it is one image, as ``pixels[0]`` of an ImageSet.
    """
    _require_bytes(array)
    is_own_size = array.shape[1:] == (preprocessing.height, preprocessing.width)
    if array.shape[0] != 3 or array.shape[2] in (3, 4) or is_own_size:
        return
    raise DataError(
        f"an array {array.shape} may be one RGB image, channels first, or three grey images: pass "
        "one RGB image as image.transpose(1, 2, 0), three grey ones as "
        "np.repeat(image[..., None], 3, axis=-1)"
    )


def _read(path: str | PathLike[str]) -> Pixels:
    """A decoded file; raises BadImage with a hint for what people pass in place of a file."""
    if str(path).startswith(("http://", "https://")):
        raise BadImage(str(path), "a web address: download the image, then pass its file")
    if Path(path).is_dir():
        reason = "a folder; pass its files, or load it with load_splits for training"
        raise BadImage(str(path), reason)
    return decode_file(Path(path))


def of_network_size(pixels: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Pixels ``(n, 3, h, w)``, which are taken as they are; raises DataError for another size."""
    if not len(pixels):
        raise DataError(_NONE)
    if pixels.shape[2:] != (preprocessing.height, preprocessing.width):
        raise DataError(
            f"{_wrong_size(pixels, preprocessing)}: pass the files themselves, or arrays (height, "
            f"width, 3), which are resized, or {_how_to_load(preprocessing)}"
        )
    return pixels


def require_network_size(images: ImageSet, preprocessing: Preprocessing) -> None:
    """Raise DataError for images to train on of another size; a set of none may have any."""
    pixels = images.pixels
    if len(pixels) and pixels.shape[2:] != (preprocessing.height, preprocessing.width):
        raise DataError(
            f"{_wrong_size(pixels, preprocessing)}: {_how_to_load(preprocessing)}, or make a new "
            "classifier for images of this size"
        )


def _wrong_size(pixels: Pixels, preprocessing: Preprocessing) -> str:
    height, width = pixels.shape[2:]
    wanted = f"{preprocessing.height}x{preprocessing.width}"
    return f"the images are {height}x{width}, but the classifier takes {wanted}"


def _how_to_load(preprocessing: Preprocessing) -> str:
    height, width = preprocessing.height, preprocessing.width
    if height != width:
        return f"resize them to {height}x{width}"
    return f"load the source with DataSettings(image_size={height})"


def _require_bytes(image: NDArray[np.generic]) -> None:
    """Raise DataError unless values are uint8: the range of others is a guess."""
    if image.dtype != np.uint8:
        raise DataError(
            f"expected uint8 with values 0 to 255, received {_kind(image)}"
            f"{bytes_hint(image, 'image')}"
        )


def _kind(thing: object) -> str:
    if isinstance(thing, np.ndarray):
        return f"{thing.dtype} {thing.shape}"
    if thing is None:
        return "None"
    if isinstance(thing, bytes | bytearray):
        return "bytes (an encoded image is opened with PIL.Image.open(io.BytesIO(data)))"
    name = type(thing).__name__
    # Tensors have as many conventions as libraries, and a range of values that is not known.
    return (
        f"a {name} (as uint8 (n, 3, height, width), its .numpy() can be passed)"
        if name == "Tensor"
        else f"the {name} {thing!r:.40}"
    )
