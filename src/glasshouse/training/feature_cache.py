"""Features on disk: one ``.npy`` file that is whole or absent, and blocks of rows before that.

A file is used only after its checksum was verified, once per process; a damaged one is made again
from its blocks or from the images. It is written with ordinary writes and mapped only when it is
complete: writing to a mapped file ends the process where the disk is full.
"""

import contextlib
import io
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.cache_pruning import (
    cache_limit,
    keep_limit,
    remove_all_leftovers,
    remove_leftovers,
)
from glasshouse.errors import StorageError
from glasshouse.file_lock import locked_folder, share
from glasshouse.storage import mark_used, write_advice, write_bytes, write_json

Values = NDArray[np.floating]
_READ_BYTES = 8 << 20
_CHECKSUM_BYTES = 4
# A name that `cache_contents` knows.
_UNFINISHED = ".unfinished"
_NPY_VERSION = (1, 0)
# The files that this process has verified, with their identity at that time.
_verified: dict[Path, tuple[int, int, int]] = {}


def cached_rows(
    whole: Path,
    bounds: list[tuple[int, int]],
    compute: Callable[[list[tuple[int, int]]], Iterable[Values]],
    source: str = "",
) -> Values:
    """The rows of a cache file, read-only and memory-mapped; what is missing is computed.

    bounds: first row and end of each block; compute: the values ``(rows, width)`` of some blocks in
    order, each of which is on the disk before the next is asked for; source: what the list of the
    cache says about them. Two processes that need the same file wait for each other. Raises
    StorageError when the cache cannot be written.
    """
    count = bounds[-1][1] if bounds else 0
    found = _open(whole, count)
    if found is not None:
        return found
    cache_limit()  # raises an error where it is not a size
    remove_all_leftovers()
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(whole, error) from error
    with locked_folder(whole.parent) as is_alone:
        if is_alone:
            remove_leftovers(whole.parent)
        found = _open(whole, count)
        if found is None:
            _make(whole, bounds, compute, source)
            found = _open(whole, count)
    keep_limit()
    if found is None:
        raise StorageError(
            f"{whole} was damaged while it was written: check the disk, or name another folder "
            "with GLASSHOUSE_CACHE"
        )
    return found


def _make(
    whole: Path,
    bounds: list[tuple[int, int]],
    compute: Callable[[list[tuple[int, int]]], Iterable[Values]],
    source: str,
) -> None:
    parts = whole.with_suffix("")
    paths = [parts / f"{start:09d}.npy" for start, _ in bounds]
    missing = [
        (path, block)
        for path, block in zip(paths, bounds, strict=True)
        if _read_block(path) is None
    ]
    found = compute([block for _, block in missing])
    for (path, _), values in zip(missing, found, strict=True):
        _write_block(path, values)
    _join(paths, whole, source)
    shutil.rmtree(parts, ignore_errors=True)


def _open(whole: Path, count: int) -> Values | None:
    """The verified file; None when it is missing, damaged or has another number of rows."""
    try:
        status = whole.stat()
        identity = (status.st_size, status.st_mtime_ns, status.st_ino)
        if _verified.get(whole) != identity:
            record = json.loads(_record_path(whole).read_text(encoding="utf-8"))
            if record["bytes"] != status.st_size or record["crc32"] != _checksum(whole):
                return None
        values = _map(whole)
    except (OSError, ValueError, LookupError, TypeError, EOFError):
        return None
    if values.ndim != 2 or len(values) != count:
        return None
    _verified[whole] = identity
    mark_used(_record_path(whole))
    return values


def _map(whole: Path) -> Values:
    """The rows of a ``.npy`` file, which counts as in use for as long as they are mapped."""
    with whole.open("rb") as file:
        share(file)
        version = np.lib.format.read_magic(file)
        if version != _NPY_VERSION:
            raise ValueError(f"expected version {_NPY_VERSION}, received {version}")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        # Raises ValueError where the file has less than the header promises.
        return np.memmap(
            file,
            dtype,
            mode="r",
            offset=file.tell(),
            shape=shape,
            order="F" if is_fortran else "C",
        )


def _record_path(whole: Path) -> Path:
    return whole.with_suffix(".json")


def _checksum(path: Path) -> int:
    """CRC-32 of a file: detects decay, not malice."""
    found = 0
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            found = zlib.crc32(block, found)
    return found


def _write_block(path: Path, values: Values) -> None:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    data = buffer.getvalue()
    write_bytes(path, data + zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "little"))


def _read_block(path: Path) -> Values | None:
    """The values of a block; None when it is missing or damaged."""
    try:
        whole = path.read_bytes()
        data, checksum = whole[:-_CHECKSUM_BYTES], whole[-_CHECKSUM_BYTES:]
        if zlib.crc32(data) != int.from_bytes(checksum, "little"):
            return None
        values: Values = np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return values


def _join(paths: list[Path], whole: Path, source: str) -> None:
    """One file of all blocks, written next to its final place and then moved there."""
    temporary = whole.with_name(f".{whole.name}.{os.getpid()}{_UNFINISHED}")
    try:
        with temporary.open("wb") as file:
            checksum = 0
            for data in _joined_bytes(paths):
                file.write(data)
                checksum = zlib.crc32(data, checksum)
            file.flush()
            # Otherwise a power failure could leave the new name with half of the rows.
            os.fsync(file.fileno())
        size = temporary.stat().st_size
        temporary.replace(whole)
        # Last: a file without its record is not used.
        record = {"bytes": size, "crc32": checksum, "source": source}
        write_json(_record_path(whole), record)
    except OSError as error:
        # Removing it may fail for the same reason, which must not hide the first error.
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise _cannot_write(whole, error) from error


def _cannot_write(whole: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write the features in {whole.parent}: {error.strerror}. "
        f"{write_advice(whole, error)}; what was computed is kept."
    )


def _joined_bytes(paths: list[Path]) -> Iterator[bytes]:
    """The bytes of a ``.npy`` file of all blocks, one block in memory at a time."""
    shapes = [(block.shape, block.dtype) for block in map(_block, paths)]
    kind = np.result_type(*(dtype for _, dtype in shapes))
    rows = sum(shape[0] for shape, _ in shapes)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header,
        {
            "descr": np.lib.format.dtype_to_descr(kind),
            "fortran_order": False,
            "shape": (rows, shapes[0][0][1]),
        },
    )
    yield header.getvalue()
    for path in paths:
        yield np.ascontiguousarray(_block(path), dtype=kind).tobytes()


def _block(path: Path) -> Values:
    values = _read_block(path)
    if values is None:
        raise OSError(0, f"{path} was damaged after it was written")
    return values
