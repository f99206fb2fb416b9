"""Files decoded once, into a memory-mapped array of one size that is keyed by their content.

A cache is two files that are whole or absent: ``<key>.pixels``, the images one after the other,
and ``<key>.json``, their digests and a checksum. Two processes that build the same one write the
same bytes. Beside them an index remembers the digest of each file by its size and time, so that
20,000 files need not be read again to be known again.
"""

import contextlib
import mmap
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.decode import DECODER_VERSION
from glasshouse.data.headers import Header
from glasshouse.data.images import BadFile
from glasshouse.data.workers import Fitting, decode_files
from glasshouse.errors import StorageError
from glasshouse.progress import Progress
from glasshouse.storage import cache_folder, read_json, sha256_of_bytes, write_json

Images = NDArray[np.uint8]
Positions = NDArray[np.int64]

_BLOCK_BYTES = 8 << 20


class Known(NamedTuple):
    """What is remembered of a file: when it was read, its digest, and why it is bad, if it is.

    changed: nanoseconds. height, width: of the upright image in the file.
    """

    file_bytes: int
    changed: int
    sha256: str
    reason: str
    height: int
    width: int
    oddities: tuple[str, ...]


# By path.
Index = dict[str, Known]


@dataclass(frozen=True)
class Cached:
    """The images of the files that could be read; good: their positions in the list asked for.

    sizes: int32 ``(n, 2)``, rows and columns in the file. oddities: remarks on each file.
    """

    images: Images
    good: Positions
    bad_files: tuple[BadFile, ...]
    sizes: NDArray[np.int32]
    oddities: tuple[tuple[str, ...], ...]


def cached_images(
    paths: Sequence[Path],
    fitting: Fitting,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Cached:
    """The images of these files, uint8 ``(n, 3, h, w)`` in their order, read-only.

    Decodes only what is in no cache yet; a damaged cache is built again. A file that cannot be
    read is listed, not raised. Raises StorageError when the cache cannot be written.
    """
    folder = _folder(fitting)
    index_path = folder / f"index-{sha256_of_bytes(str(_common(paths)).encode())[:16]}.json"
    index = _known(paths, _read_index(index_path))
    if len(index) < len(paths):
        _build(paths, fitting, index, progress=progress, workers=workers)
        write_json(index_path, index)
    found = _open(paths, fitting, index)
    if found is None:
        # What is remembered has no images any more; read those files again.
        _build(paths, fitting, index, progress=progress, workers=workers)
        write_json(index_path, index)
        found = _open(paths, fitting, index)
    if found is None:
        raise StorageError(f"the cache in {folder} changes while it is read; try again")
    return found


def gather(images: Images, positions: Positions) -> Images:
    """The images at these positions, copied, and the pages of a memory map given back.

    Pages that were read once stay resident otherwise, and a large cache would fill the memory.
    """
    rows = np.ascontiguousarray(np.asarray(images)[positions])
    mapping = _mapping(images)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
    return rows


def blocks(images: Images, block_bytes: int = _BLOCK_BYTES) -> Iterator[Images]:
    """All images in order, a few at a time, without keeping a memory map resident."""
    each = max(1, block_bytes // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), each):
        yield gather(images, np.arange(start, min(start + each, len(images))))


def _build(
    paths: Sequence[Path],
    fitting: Fitting,
    index: Index,
    *,
    progress: Progress | None,
    workers: int | None,
) -> None:
    """Decode or copy every image into a new file, and give it the name of its content."""
    folder = _folder(fitting)
    row_bytes = 3 * fitting.height * fitting.width
    temporary = folder / f".building-{os.getpid()}-{id(index)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("w+b") as file:
            todo = _copy_known(file, paths, index, folder, row_bytes)
            _decode_rest(file, paths, todo, index, fitting, (progress, workers))
            good = _good(paths, index)
            _close_gaps(file, good, row_bytes)
            digests = [index[str(paths[number])].sha256 for number in good]
            checksum = _checksum(file)
            os.fsync(file.fileno())
        key = _key(digests, fitting)
        temporary.replace(folder / f"{key}.pixels")
        write_json(folder / f"{key}.json", {"crc32": checksum, "digests": digests})
    except OSError as error:
        raise StorageError(
            f"cannot write the cache in {folder}: {error.strerror}. "
            "Free some space, or name another folder with GLASSHOUSE_CACHE."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _copy_known(
    file: Any, paths: Sequence[Path], index: Index, folder: Path, row_bytes: int
) -> list[int]:
    """Copy the rows that an older cache has; returns the positions that have to be decoded."""
    wanted: dict[str, list[int]] = {}
    for number, path in enumerate(paths):
        known = index.get(str(path))
        if known and not known.reason:
            wanted.setdefault(known.sha256, []).append(number)
    for record_path in sorted(folder.glob("*.json")) if wanted else []:
        digests = _whole_record(record_path, row_bytes) if "index" not in record_path.name else None
        for row, digest in enumerate(digests or ()):
            if numbers := wanted.pop(digest, None):
                _copy_row(file, record_path.with_suffix(".pixels"), row, numbers, row_bytes)
    missing = {number for numbers in wanted.values() for number in numbers}
    return [n for n, path in enumerate(paths) if str(path) not in index or n in missing]


def _copy_row(file: Any, source: Path, row: int, numbers: list[int], row_bytes: int) -> None:
    with source.open("rb") as older:
        older.seek(row * row_bytes)
        data = older.read(row_bytes)
    for number in numbers:
        file.seek(number * row_bytes)
        file.write(data)


def _decode_rest(
    file: Any,
    paths: Sequence[Path],
    todo: list[int],
    index: Index,
    fitting: Fitting,
    how: tuple[Progress | None, int | None],
) -> None:
    progress, workers = how
    before = [_stamp(paths[number]) for number in todo]
    row_bytes = 3 * fitting.height * fitting.width
    chosen = [paths[number] for number in todo]
    for done, result in enumerate(decode_files(chosen, fitting, workers=workers), start=1):
        number = todo[result.position]
        if result.pixels:
            file.seek(number * row_bytes)
            file.write(result.pixels)
        header = result.header or Header(0, 0)
        index[str(paths[number])] = Known(
            *before[result.position],
            result.sha256,
            result.reason,
            header.height,
            header.width,
            header.oddities,
        )
        if progress:
            progress("decoding images", done, len(todo))


def _close_gaps(file: Any, good: list[int], row_bytes: int) -> None:
    """Move the rows behind a bad file forward."""
    for row, number in enumerate(good):
        if row != number:
            file.seek(number * row_bytes)
            data = file.read(row_bytes)
            file.seek(row * row_bytes)
            file.write(data)
    file.truncate(len(good) * row_bytes)
    file.flush()


def _open(paths: Sequence[Path], fitting: Fitting, index: Index) -> Cached | None:
    """The cache of these files, or None when it is missing or damaged."""
    good = _good(paths, index)
    digests = [index[str(paths[number])].sha256 for number in good]
    record = _folder(fitting) / f"{_key(digests, fitting)}.json"
    row_bytes = 3 * fitting.height * fitting.width
    shape = (len(good), 3, fitting.height, fitting.width)
    if good and _whole_record(record, row_bytes) != digests:
        return None
    images = (
        np.memmap(record.with_suffix(".pixels"), np.uint8, mode="r", shape=shape)
        if good
        else np.empty(shape, np.uint8)
    )
    known = [index[str(paths[number])] for number in good]
    return Cached(
        images,
        np.array(good, dtype=np.int64),
        tuple(BadFile(str(path), reason) for path in paths if (reason := index[str(path)].reason)),
        np.array([(each.height, each.width) for each in known], np.int32).reshape(-1, 2),
        tuple(each.oddities for each in known),
    )


def _whole_record(path: Path, row_bytes: int) -> list[str] | None:
    """The digests of a cache whose pixels are all there and unchanged."""
    pixels = path.with_suffix(".pixels")
    try:
        record = read_json(path)
        digests, checksum = list(record["digests"]), int(record["crc32"])
        if pixels.stat().st_size != len(digests) * row_bytes:
            return None
        with pixels.open("rb") as file:
            return digests if _checksum(file) == checksum else None
    except (StorageError, OSError, KeyError, TypeError, ValueError):
        return None


def _checksum(file: Any) -> int:
    """CRC-32 of a whole file: against decay, not against malice, and fast enough for each start."""
    file.seek(0)
    checksum = 0
    while block := file.read(_BLOCK_BYTES):
        checksum = zlib.crc32(block, checksum)
    return checksum


def _known(paths: Sequence[Path], index: Index) -> Index:
    """The entries of files that have the size and the time that they had."""
    known = {}
    for path in paths:
        entry = index.get(str(path))
        # A file whose process died may have been unlucky; it gets another chance.
        if entry and entry.sha256 and entry[:2] == _stamp(path):
            known[str(path)] = entry
    return known


def _stamp(path: Path) -> tuple[int, int]:
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    return -1, -1


def _read_index(path: Path) -> Index:
    try:
        return {str(name): _as_known(*values) for name, values in read_json(path).items()}
    except (StorageError, AttributeError, TypeError, ValueError):
        return {}


def _as_known(*values: Any) -> Known:
    # An index of an earlier version has fewer values, and the files are read again.
    *numbers, digest, reason, height, width, oddities = values
    size, time = numbers
    return Known(
        int(size), int(time), str(digest), str(reason), int(height), int(width), tuple(oddities)
    )


def _good(paths: Sequence[Path], index: Index) -> list[int]:
    return [number for number, path in enumerate(paths) if not index[str(path)].reason]


def _key(digests: Sequence[str], fitting: Fitting) -> str:
    parts = (DECODER_VERSION, fitting.height, fitting.width, fitting.resize, *digests)
    return sha256_of_bytes("\n".join(map(str, parts)).encode())[:32]


def _folder(fitting: Fitting) -> Path:
    name = f"{fitting.height}x{fitting.width}-{fitting.resize}-{DECODER_VERSION}"
    return cache_folder() / "images" / name


def _common(paths: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([path.absolute().parent for path in paths]))


def _mapping(images: Images) -> mmap.mmap | None:
    base: object = images
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
