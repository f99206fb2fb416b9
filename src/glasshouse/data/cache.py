"""Files decoded once, into a memory-mapped array of one size that is keyed by their content.

An entry consists of ``<key>.pixels``, the images one after the other; ``<key>.survey``, what one
pass over them found; and ``<key>.json``, the digests of their files and what the other two are
verified by: an entry is complete once it has all three. Two processes that need the same entry wait
for each other, and an interrupted build is continued. Next to the entries, an index remembers the
digest of each file by its size, times and inode, so that 20,000 files need not be read again.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.cache_pruning import cache_limit, keep_limit, remove_all_leftovers
from glasshouse.data.cache_entry import (
    EntryRecord,
    checksum_of,
    file_blocks,
    read_record,
    survey_of_blocks,
    verified_survey,
    write_record,
)
from glasshouse.data.decode import DECODER_VERSION
from glasshouse.data.embedded import ImageFile
from glasshouse.data.file_index import (
    FileIndex,
    KnownFile,
    file_stamp,
    read_index,
    readable,
    unchanged,
)
from glasshouse.data.fitting import Fitting
from glasshouse.data.headers import Header
from glasshouse.data.images import BadFile
from glasshouse.data.pixel_blocks import Images, Positions, images_per_block
from glasshouse.data.survey import Survey, survey
from glasshouse.data.unfinished_build import Build, building, forget_builds
from glasshouse.data.workers import decode_files
from glasshouse.errors import StorageError
from glasshouse.file_lock import locked_folder, share
from glasshouse.progress import Progress
from glasshouse.storage import (
    cache_folder,
    mark_used,
    require_disk_space,
    sha256_of_bytes,
    write_advice,
    write_json,
)


@dataclass(frozen=True)
class Cached:
    """The images of the files that could be read; good: their positions in the list of files.

    sizes: int32 ``(n, 2)``, rows and columns in the file. oddities: remarks on each file. narrow:
    the values of each file that uses few of those that its type has, otherwise empty.
    """

    images: Images
    survey: Survey
    good: Positions
    bad_files: tuple[BadFile, ...]
    sizes: NDArray[np.int32]
    oddities: tuple[tuple[str, ...], ...]
    narrow: tuple[str, ...]


def cached_images(
    paths: Sequence[ImageFile],
    fitting: Fitting,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
    made_from: str | None = None,
) -> Cached:
    """The images of these files, uint8 ``(n, 3, h, w)`` in their order, read-only.

    Decodes only what no entry has yet; a damaged entry is built again. The pixels are read once: to
    be surveyed when they were just written, to be verified otherwise. A file that cannot be read is
    listed, not raised. made_from: what the entry is said to be made from, by default the folder of
    the files. Raises StorageError when the cache cannot be written, or the disk is too small.
    """
    source = _common(paths)
    index_path = _index_path(source, fitting)
    found = _open(paths, fitting, unchanged(paths, read_index(index_path)))
    if found is not None:
        mark_used(index_path)
        return found
    folder = _folder(fitting)
    # Before hours of decoding, not after: it raises an error where the limit is not a size.
    cache_limit()
    row_bytes = 3 * fitting.height * fitting.width
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with building(folder, paths, row_bytes, source, progress) as build:
            remove_all_leftovers()
            index = unchanged(paths, read_index(index_path)) | build.index
            # Whoever held the lock before may have built it, or was interrupted at the very end.
            found = _open(paths, fitting, index)
            if found is None:
                what = _What(paths, fitting, index_path, made_from or str(source))
                found = _build(build, what, index, (progress, workers))
            else:
                write_json(index_path, index)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    # What was just built is mapped, and therefore kept.
    keep_limit()
    return found


def forget_files(paths: Sequence[ImageFile]) -> None:
    """Have these files read again, however unchanged they look."""
    names = set(map(str, paths))
    for path in (cache_folder() / "images").glob("*/index-*.json"):
        if names & read_index(path).keys():
            path.unlink(missing_ok=True)
    forget_builds(_common(paths))


@dataclass(frozen=True)
class _What:
    """What an entry is to hold; source: what it is made from, in words."""

    paths: Sequence[ImageFile]
    fitting: Fitting
    index_path: Path
    source: str


def _build(
    build: Build,
    what: _What,
    index: FileIndex,
    how: tuple[Progress | None, int | None],
) -> Cached:
    """Decode or copy every image that is missing, survey all, and name them by their content."""
    paths, fitting = what.paths, what.fitting
    folder, file = _folder(fitting), build.pixels
    on_disk = build.bytes_on_disk()
    what_for = f"{'the rest of ' if on_disk else ''}the cache of {len(paths):,} images"
    require_disk_space(folder, len(paths) * build.row_bytes - on_disk, what_for)
    todo = _copy_known(build, paths, index, folder)
    _decode_rest(build, what, todo, index, how)
    build.save()
    good = readable(paths, index)
    surveyed, checksum = survey_of_blocks(_blocks(build, good, len(paths), fitting), fitting)
    digests = [index[str(paths[number])].sha256 for number in good]
    record = _record_path(digests, fitting)
    # Nobody removes a record for want of pixels meanwhile.
    with locked_folder(folder):
        write_record(record, EntryRecord(digests, checksum, "", what.source), surveyed)
        # As late as possible: an interrupted build finds its rows where the log says.
        _close_gaps(file, good, build.row_bytes)
        # Otherwise a power failure could leave the new name with half of the pixels.
        os.fsync(file.fileno())
        # Windows does not rename a file that is open.
        file.close()
        _put(build.path, record.with_suffix(".pixels"))
        write_json(what.index_path, index)
        return _mapped(paths, fitting, index, surveyed)


def _cannot_write(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write the cache in {folder}: {error.strerror}. {write_advice(folder, error)}."
    )


def _put(temporary: Path, target: Path) -> None:
    """Move a finished file to its name."""
    try:
        temporary.replace(target)
    except PermissionError:
        # Windows does not replace a file that a process has mapped. The name says what is in it,
        # and a mapped one was verified when it was opened.
        if not target.is_file() or target.stat().st_size != temporary.stat().st_size:
            raise


def _copy_known(
    build: Build, paths: Sequence[ImageFile], index: FileIndex, folder: Path
) -> list[int]:
    """Copy the images that an older entry has; returns the positions that have to be decoded."""
    wanted: dict[str, list[int]] = {}
    for number, path in enumerate(paths):
        known = index.get(str(path))
        if known and not known.reason and number not in build.rows:
            wanted.setdefault(known.sha256, []).append(number)
    # A folder that has grown by a few files needs to have only those decoded.
    for record in sorted(folder.glob("*.json")) if wanted else []:
        if wanted and not record.name.startswith("index-"):
            # Another process may remove it at any time, until it is open.
            with contextlib.suppress(FileNotFoundError):
                _copy_rows(build, record, wanted)
    missing = {number for numbers in wanted.values() for number in numbers}
    unknown = (n for n, path in enumerate(paths) if str(path) not in index or n in missing)
    return [number for number in unknown if number not in build.rows]


def _copy_rows(build: Build, record: Path, wanted: dict[str, list[int]]) -> None:
    """Copy the wanted images that an undamaged entry has, and strike them off."""
    entry = read_record(record, build.row_bytes)
    # Reading all pixels of an entry to verify them is only worth it when some are needed.
    if entry is None or not any(digest in wanted for digest in entry.digests):
        return
    with record.with_suffix(".pixels").open("rb") as older:
        share(older)
        if checksum_of(file_blocks(older)) != entry.crc32:
            return
        for row, digest in enumerate(entry.digests):
            if numbers := wanted.pop(digest, None):
                older.seek(row * build.row_bytes)
                data = older.read(build.row_bytes)
                for number in numbers:
                    build.copy(number, data)


def _decode_rest(
    build: Build,
    what: _What,
    todo: list[int],
    index: FileIndex,
    how: tuple[Progress | None, int | None],
) -> None:
    progress, workers = how
    # A file that is listed several times is decoded once, for all: it could change in between.
    positions: dict[str, list[int]] = {str(what.paths[number]): [] for number in todo}
    for number, path in enumerate(map(str, what.paths)):
        if path in positions:
            positions[path].append(number)
    chosen = [what.paths[numbers[0]] for numbers in positions.values()]
    # Read before decoding: a file that is changed meanwhile will not match, and is decoded again.
    before = [file_stamp(path) for path in chosen]
    results = decode_files(chosen, what.fitting, workers=workers)
    for done, result in enumerate(results, start=1):
        name = str(chosen[result.position])
        header = result.header or Header(0, 0)
        known = index[name] = KnownFile(
            *before[result.position],
            result.sha256,
            result.reason,
            header.height,
            header.width,
            header.oddities,
            header.narrow,
        )
        # Results arrive in any order, so every image has a fixed place in the file.
        for number in positions[name]:
            build.add(number, result.pixels, known)
        if progress:
            progress("decoding images", done, len(chosen))


def _blocks(build: Build, good: list[int], count: int, fitting: Fitting) -> Iterator[bytes]:
    """The rows of the good files, some at a time."""
    per_block = images_per_block((3, fitting.height, fitting.width))
    build.pixels.flush()
    if len(good) == count:
        yield from file_blocks(build.pixels, per_block * build.row_bytes)
        return
    for first in range(0, len(good), per_block):
        yield b"".join(build.row(number) for number in good[first : first + per_block])


def _close_gaps(file: Any, good: list[int], row_bytes: int) -> None:
    """Move the images that follow a bad file forward."""
    for row, number in enumerate(good):
        if row != number:
            file.seek(number * row_bytes)
            data = file.read(row_bytes)
            file.seek(row * row_bytes)
            file.write(data)
    file.truncate(len(good) * row_bytes)
    file.flush()


def _open(paths: Sequence[ImageFile], fitting: Fitting, index: FileIndex) -> Cached | None:
    """The entry of these files; None when a file is unknown or the entry missing or damaged.

    index: of the unchanged files.
    """
    # A path may be listed twice: validation images that are trained on as well.
    if len(index) != len(set(map(str, paths))):
        return None
    digests = [index[str(paths[number])].sha256 for number in readable(paths, index)]
    if not digests:
        return _mapped(paths, fitting, index, survey(_no_images(fitting)))
    record = _record_path(digests, fitting)
    entry = read_record(record, 3 * fitting.height * fitting.width)
    if entry is None or entry.digests != digests:
        return None
    found = verified_survey(record, entry, fitting)
    # Between two looks at it, another process may have removed the entry.
    with contextlib.suppress(FileNotFoundError):
        return None if found is None else _mapped(paths, fitting, index, found)
    return None


def _mapped(
    paths: Sequence[ImageFile], fitting: Fitting, index: FileIndex, found: Survey
) -> Cached:
    """The images of an entry whose pixels are known to be right."""
    good = readable(paths, index)
    known = [index[str(paths[number])] for number in good]
    record = _record_path([each.sha256 for each in known], fitting)
    mark_used(record)
    return Cached(
        # An empty file cannot be mapped.
        images=_map(record.with_suffix(".pixels"), len(good), fitting)
        if good
        else _no_images(fitting),
        survey=found,
        good=np.array(good, dtype=np.int64),
        bad_files=tuple(
            BadFile(str(path), reason) for path in paths if (reason := index[str(path)].reason)
        ),
        sizes=np.array([(each.height, each.width) for each in known], np.int32).reshape(-1, 2),
        oddities=tuple(each.oddities for each in known),
        narrow=tuple(each.narrow for each in known),
    )


def _map(pixels: Path, count: int, fitting: Fitting) -> Images:
    """The images of a file, which count as in use for as long as they are mapped."""
    shape = (count, 3, fitting.height, fitting.width)
    # By its name as text, which messages about the map then show.
    with open(str(pixels), "rb") as file:  # noqa: PTH123
        # Mapping more than the file holds would end the process at the first missing page.
        if os.fstat(file.fileno()).st_size != int(np.prod(shape)):
            raise StorageError(f"{pixels} was truncated: run again, and the cache is built again")
        share(file)
        return np.memmap(file, np.uint8, mode="r", shape=shape)


def _no_images(fitting: Fitting) -> Images:
    return np.empty((0, 3, fitting.height, fitting.width), np.uint8)


def _record_path(digests: Sequence[str], fitting: Fitting) -> Path:
    """Where the record of an entry is: its name is made from all that decides its pixels."""
    parts = (DECODER_VERSION, *fitting.key, *digests)
    key = sha256_of_bytes(os.fsencode("\n".join(map(str, parts))))[:32]
    return _folder(fitting) / f"{key}.json"


def _index_path(source: Path, fitting: Fitting) -> Path:
    return _folder(fitting) / f"index-{sha256_of_bytes(os.fsencode(source))[:16]}.json"


def _folder(fitting: Fitting) -> Path:
    height, width, *how = fitting.key
    name = "-".join([f"{height}x{width}", *how, DECODER_VERSION])
    return cache_folder() / "images" / name


def _common(paths: Sequence[ImageFile]) -> Path:
    """The folder that all files are in, which their index is named by."""
    folders = [path.absolute().parent for path in paths]
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # on several drives of Windows
        return folders[0]
