"""What a user may pass as images, in one place: files, Pillow images, arrays and image sets."""

from collections.abc import Iterable, Iterator
from os import PathLike, fspath
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PillowImage, fromarray

from glasshouse.data.decode import Pixels, decode_opened
from glasshouse.data.headers import decode_file
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
    given = _listed(images)
    return np.stack([_prepared(each, preprocessing) for each in given])


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


def _prepared(image: OneImage, preprocessing: Preprocessing) -> Pixels:
    if isinstance(image, str | PathLike):
        return preprocess(_read(image), preprocessing)
    if isinstance(image, PillowImage):
        return preprocess(decode_opened(image), preprocessing)
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
    wanted = preprocessing.height, preprocessing.width
    if not len(pixels):
        raise DataError(_NONE)
    if pixels.shape[2:] != wanted:
        height, width = pixels.shape[2:]
        raise DataError(
            f"the images are {height}x{width}, but the classifier takes {wanted[0]}x{wanted[1]}: "
            f"pass the files themselves, arrays (height, width, 3), which are resized, or load the "
            f"source with DataSettings(image_size={wanted[0]})"
        )
    return pixels


def _require_bytes(image: NDArray[np.generic]) -> None:
    """Raise DataError unless values are uint8: the range of others is a guess."""
    if image.dtype == np.uint8:
        return
    if image.size and image.dtype.kind == "f" and not np.isfinite(image).all():
        raise DataError("expected uint8 with values 0 to 255, received values that are not finite")
    hint = "convert it with .astype('uint8') if its values are 0 to 255"
    if image.size and image.dtype.kind == "f" and np.nanmax(image) <= 1:
        hint = "values 0 to 1 become 0 to 255 with (255 * image).round().astype('uint8')"
    raise DataError(f"expected uint8 with values 0 to 255, received {_kind(image)}; {hint}")


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
        f"a {name} (as uint8, its .numpy() can be passed)"
        if name == "Tensor"
        else f"the {name} {thing!r:.40}"
    )
