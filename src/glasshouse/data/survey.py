"""What one pass over the pixels of a set of images finds; everything else takes it from here.

A survey is a table with a row per image, so that the survey of a part of a set is a slice of it.
The sums are integers: they are exact, and do not depend on the order in which they are added up.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from glasshouse.data.pixel_blocks import Images, blocks
from glasshouse.errors import StorageError

Channels = tuple[float, float, float]

_DIGEST_BYTES = 16
# A channel without any variation, in grey or black images, must not lead to a division by zero.
_SMALLEST_VARIANCE = 1e-8


@dataclass(frozen=True)
class Survey:
    """One row per image: digest, whether it is of a single colour, and sums of each channel.

    digests: uint8 ``(n, 16)``, equal for equal pixels. is_constant: bool ``(n,)``. sums, squares:
    int64 ``(n, 3)``, of the values in 0..255 and of their squares. image_pixels: pixels per image.
    """

    digests: NDArray[np.uint8]
    is_constant: NDArray[np.bool_]
    sums: NDArray[np.int64]
    squares: NDArray[np.int64]
    image_pixels: int

    def __len__(self) -> int:
        return len(self.digests)


def survey(pixels: Images) -> Survey:
    """Survey images, uint8 ``(n, 3, h, w)``, in one pass that never holds more than a block."""
    return survey_blocks(blocks(pixels), int(np.prod(pixels.shape[2:])))


def survey_blocks(parts: Iterable[Images], image_pixels: int) -> Survey:
    """Survey images that come block by block, each uint8 ``(m, 3, h, w)``."""
    return _stacked([_empty(image_pixels), *map(_survey_block, parts)])


def survey_slice(whole: Survey, start: int, stop: int) -> Survey:
    """The survey of the images from start up to stop."""
    rows = slice(start, stop)
    return Survey(
        digests=whole.digests[rows],
        is_constant=whole.is_constant[rows],
        sums=whole.sums[rows],
        squares=whole.squares[rows],
        image_pixels=whole.image_pixels,
    )


def channel_statistics(found: Survey) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel over all images, in units of 0..1."""
    count = len(found) * found.image_pixels
    mean = found.sums.sum(axis=0) / (255 * count)
    variance = found.squares.sum(axis=0) / (255**2 * count) - mean**2
    return _three(mean), _three(np.sqrt(np.maximum(variance, _SMALLEST_VARIANCE)))


def global_statistics(found: Survey) -> tuple[Channels, Channels]:
    """One mean and one standard deviation of all values, for every channel, in units of 0..1."""
    count = 3 * len(found) * found.image_pixels
    mean = found.sums.sum() / (255 * count)
    variance = found.squares.sum() / (255**2 * count) - mean**2
    deviation = np.sqrt(max(variance, _SMALLEST_VARIANCE))
    return _three(np.full(3, mean)), _three(np.full(3, deviation))


def survey_to_bytes(found: Survey) -> bytes:
    """The survey as a safetensors file; equal surveys give equal bytes."""
    return save(
        {
            "digests": np.ascontiguousarray(found.digests),
            "is_constant": np.ascontiguousarray(found.is_constant),
            "sums": np.ascontiguousarray(found.sums),
            "squares": np.ascontiguousarray(found.squares),
            "image_pixels": np.array([found.image_pixels], dtype=np.int64),
        }
    )


def survey_from_bytes(data: bytes) -> Survey:
    """Read what survey_to_bytes wrote; raises StorageError for anything else."""
    try:
        tables = load(data)
        return Survey(
            digests=tables["digests"],
            is_constant=tables["is_constant"],
            sums=tables["sums"],
            squares=tables["squares"],
            image_pixels=int(tables["image_pixels"][0]),
        )
    except (SafetensorError, KeyError, IndexError, ValueError) as error:
        raise StorageError(f"not a survey of images: {error}") from error


def _survey_block(block: Images) -> Survey:
    count = block.shape[2] * block.shape[3]
    values = block.reshape(len(block), 3, count)
    sums = values.sum(axis=2, dtype=np.int64)
    # The square of a byte fits 16 bits, which keeps the copy small.
    squares = np.multiply(values, values, dtype=np.uint16).sum(axis=2, dtype=np.int64)
    # All values of a channel are equal exactly when both sums are those of its first value.
    first = values[:, :, 0].astype(np.int64)
    is_flat = (sums == count * first) & (squares == count * first**2)
    digests = b"".join(
        hashlib.blake2b(image.data, digest_size=_DIGEST_BYTES).digest() for image in block
    )
    return Survey(
        digests=np.frombuffer(digests, np.uint8).reshape(-1, _DIGEST_BYTES),
        is_constant=is_flat.all(axis=1),
        sums=sums,
        squares=squares,
        image_pixels=count,
    )


def _empty(image_pixels: int) -> Survey:
    return Survey(
        digests=np.empty((0, _DIGEST_BYTES), np.uint8),
        is_constant=np.empty(0, np.bool_),
        sums=np.empty((0, 3), np.int64),
        squares=np.empty((0, 3), np.int64),
        image_pixels=image_pixels,
    )


def _stacked(parts: Sequence[Survey]) -> Survey:
    return Survey(
        digests=np.concatenate([part.digests for part in parts]),
        is_constant=np.concatenate([part.is_constant for part in parts]),
        sums=np.concatenate([part.sums for part in parts]),
        squares=np.concatenate([part.squares for part in parts]),
        image_pixels=parts[0].image_pixels,
    )


def _three(values: NDArray[np.float64]) -> Channels:
    red, green, blue = (round(float(value), 6) for value in values)
    return red, green, blue
