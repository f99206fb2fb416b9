"""Input tensors of the Open Inference Protocol as images: JSON or binary, of any datatype."""

import base64
import binascii
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.models.preprocessing import Preprocessing
from glasshouse.serving.service.image_work import ImageWork
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.problems import Problem
from glasshouse.serving.service.schemas import InputTensor
from glasshouse.serving.service.uploads import Upload, image_work

IMAGES, PIXELS = "images", "pixels"
_NUMBERS = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BF16": "<u2",
}  # fmt: skip
PIXEL_DATATYPES = tuple(_NUMBERS)
_FLOATS = frozenset({"FP16", "FP32", "FP64", "BF16"})
# Every element of a binary BYTES tensor begins with its length.
_LENGTH_BYTES = 4
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]+={0,2}\s*")
_TO_UNIT, _TO_BYTE = "0 to 1", "0 to 255"


@dataclass(frozen=True)
class InputImages:
    """The images of a tensor.

    uploads: the files that they come from, for BYTES. value_range: how pixels were understood.
    """

    works: list[ImageWork]
    uploads: list[Upload] = field(default_factory=list)
    value_range: str | None = None
    warning: str | None = None

    def parameters(self) -> dict[str, str]:
        """What a client should know about how its input was read; complete once it is decoded."""
        warnings = [each for upload in self.uploads for each in upload.warnings]
        warnings += [self.warning] if self.warning else []
        return {
            **({"value_range": self.value_range} if self.value_range else {}),
            **({"warnings": " ".join(warnings)} if warnings else {}),
        }


def input_images(
    tensor: InputTensor, binary: bytes | None, wanted: Preprocessing, limits: Limits
) -> InputImages:
    """The images of a tensor; binary: its bytes, where they are not in `data`.

    Its only input has one meaning for each datatype, so that its name does not matter. Raises
    Problem 422 for a tensor that does not fit.
    """
    is_files = tensor.datatype == "BYTES"
    image = () if is_files else (3, wanted.height, wanted.width)
    count = _require_shape(tensor, image, limits)
    if is_files:
        uploads = _files(tensor, binary, count, limits)
        works = [image_work(each, wanted, limits) for each in uploads]
        return InputImages(works, uploads)
    values = _numbers(tensor, binary, limits)
    _require_count(tensor, values.size, count * math.prod(image))
    pixels, value_range, warning = _pixels(values, tensor.datatype)
    makes = [partial(np.asarray, each) for each in pixels.reshape(count, *image)]
    works = [ImageWork(make, make_small=make) for make in makes]
    return InputImages(works, value_range=value_range, warning=warning)


def invalid_input(reason: str) -> Problem:
    """Problem 422 for an input tensor."""
    return Problem(422, "invalid", f"inputs: {reason}")


def _require_shape(tensor: InputTensor, image: tuple[int, ...], limits: Limits) -> int:
    """The number of images."""
    count, *rest = tensor.shape
    if rest == list(image) or (not image and rest == [1]):
        if not 1 <= count <= limits.max_images:
            raise invalid_input(f"expected 1 to at most {limits.max_images} images, got {count}")
        return count
    hint = ""
    if image and tensor.shape == list(image):
        hint = "; add a dimension for the batch at the front"
    elif image and rest == [*image[1:], image[0]]:
        hint = "; put the channels first: array.transpose(0, 3, 1, 2)"
    elif image and len(rest) == 3:
        hint = f"; resize to {image[2]}x{image[1]}, or send image files as BYTES"
    raise invalid_input(f"expected the shape {[-1, *image]}, got {tensor.shape}{hint}")


def _require_count(tensor: InputTensor, found: int, expected: int) -> None:
    if found != expected:
        raise invalid_input(f"the shape {tensor.shape} needs {expected} values, got {found}")


def _numbers(tensor: InputTensor, binary: bytes | None, limits: Limits) -> NDArray[Any]:
    """The values of a tensor of numbers, flat."""
    if binary is None:
        return _json_numbers(_flat(tensor.data or [], limits.max_body), tensor.datatype)
    kind = np.dtype(_NUMBERS[tensor.datatype])
    if len(binary) % kind.itemsize:
        raise invalid_input(
            f"{len(binary)} bytes are not a whole number of {tensor.datatype} values"
        )
    values = np.frombuffer(binary, kind)
    if tensor.datatype != "BF16":
        return values
    # The upper half of a float32.
    return (values.astype(np.uint32) << 16).view(np.float32)


def _json_numbers(values: list[Any], datatype: str) -> NDArray[Any]:
    kinds = bool | int if datatype == "BOOL" else int | float
    is_bool = datatype == "BOOL"
    if not all(isinstance(v, kinds) and (is_bool or not isinstance(v, bool)) for v in values):
        raise invalid_input("expected numbers" if not is_bool else "expected true or false")
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except OverflowError as error:
        raise _outside("a number beyond that") from error
    # NaN is no whole number either, but the range says so in better words.
    if datatype not in _FLOATS and (numbers != np.rint(numbers))[np.isfinite(numbers)].any():
        raise invalid_input(f"expected whole numbers for {datatype}")
    if is_bool and not np.isin(numbers, (0, 1)).all():
        raise invalid_input("expected true or false, or 0 and 1")
    return numbers


def _pixels(values: NDArray[Any], datatype: str) -> tuple[NDArray[Any], str, str | None]:
    """Pixels from 0 to 255, the range in which the values were, and a warning."""
    low, high = values.min(), values.max()
    # Written as "not within" because NaN compares false to everything and must fail.
    if not (low >= 0 and high <= 255):
        raise _outside(f"values from {low:g} to {high:g}", is_normalised=bool(low < 0))
    if datatype == "BOOL":
        return values.astype(np.uint8) * np.uint8(255), _TO_UNIT, None
    if datatype not in _FLOATS:
        doubt = "all values are 0 or 1, of 0 to 255: nearly black images" if high == 1 else None
        return values.astype(np.uint8), _TO_BYTE, doubt
    if 0 < high <= 1:
        return values.astype(np.float32) * np.float32(255), _TO_UNIT, None
    return values.astype(np.float32), _TO_BYTE, None


def _outside(received: str, is_normalised: bool = False) -> Problem:
    hint = ": send pixels before normalisation, which is part of the model" if is_normalised else ""
    return invalid_input(
        f"expected values from 0 to 255, or fractions from 0 to 1; got {received}{hint}"
    )


def _files(tensor: InputTensor, binary: bytes | None, count: int, limits: Limits) -> list[Upload]:
    read: Callable[[str, Any], bytes]
    values: Sequence[Any]
    if binary is None:
        values, read = _flat(tensor.data or [], limits.max_body), _file_of_text
    else:
        values, read = _elements(tensor, binary, count), _file_of_bytes
    # Before anything is made for each: millions of empty elements fit into a small body.
    _require_count(tensor, len(values), count)
    names = [f"{IMAGES}[{index}]" for index in range(len(values))]
    return [Upload(name, read(name, value)) for name, value in zip(names, values, strict=True)]


def _elements(tensor: InputTensor, binary: bytes, count: int) -> list[bytes]:
    """The elements of a binary BYTES tensor, of which there should be this many."""
    found: list[bytes] = []
    at = 0
    while at < len(binary):
        if len(found) == count:
            raise invalid_input(f"the shape {tensor.shape} needs {count} values, got more")
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(binary[at:start], "little")
        if at > len(binary):
            raise invalid_input("the binary data ends within an element")
        found.append(binary[start:at])
    return found


def _file_of_bytes(name: str, value: bytes) -> bytes:
    # Some clients encode files in any case. No image format begins like base64 and stays so.
    if not _BASE64.fullmatch(value):
        return value
    text = b"".join(value.split())
    return base64.b64decode(text) if len(text) % 4 == 0 else value


def _file_of_text(name: str, value: Any) -> bytes:
    if not isinstance(value, str):
        raise invalid_input(f"{name}: expected a file in base64, got {type(value).__name__}")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_input(f"{name}: not base64 ({error})") from error


def _flat(data: Sequence[Any], most: int) -> list[Any]:
    """The values of nested lists in row-major order."""
    values = list(data)
    while any(isinstance(value, list) for value in values):
        if not all(isinstance(value, list) for value in values) or len(values) > most:
            raise invalid_input("the data is not nested evenly")
        values = [inner for value in values for inner in value]
    return values
