"""Rows of large pixel arrays, read a few at a time, so that a memory map never fills the memory."""

import mmap
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import StorageError

Images = NDArray[np.uint8]
Positions = NDArray[np.int64]

BLOCK_BYTES = 8 << 20


def gather(images: Images, positions: Positions) -> Images:
    """Copy the images at these positions, and release the pages of a memory map.

    Pages that were read once would stay resident otherwise, until a large cache fills the memory.
    """
    mapping = _mapping(images)
    # The system ends a process that reads a page which the file no longer has.
    if mapping is not None and mapping.size() < len(mapping):
        raise StorageError(
            f"{getattr(images, 'filename', None) or 'a cache file'} was truncated while it was in "
            "use: run again, and the cache is built again"
        )
    rows = _copy_rows(images, positions)
    # Not every system knows this advice; there, the system decides when to drop the pages.
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
    return rows


def blocks(images: Images, block_bytes: int = BLOCK_BYTES) -> Iterator[Images]:
    """Yield all images in order, a few at a time, without keeping a memory map resident."""
    each = images_per_block(images.shape[1:], block_bytes)
    for start in range(0, len(images), each):
        yield gather(images, np.arange(start, min(start + each, len(images))))


def images_per_block(shape: tuple[int, ...], block_bytes: int = BLOCK_BYTES) -> int:
    """How many images ``(3, h, w)`` a block has; at least one."""
    return max(1, block_bytes // max(1, int(np.prod(shape))))


def _copy_rows(images: Images, positions: Positions) -> Images:
    # As a plain array: numpy's memmap class would run Python code for every piece it hands out.
    return np.ascontiguousarray(np.asarray(images)[positions])


def _mapping(images: Images) -> mmap.mmap | None:
    """The memory map below an array, which may be a slice of a slice of it."""
    base: object = images
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
