"""The pixels of an entry that is being built, and a log from which an interrupted build continues.

``.building-<key>-<owner>-<number>`` has a row of pixels for each file of a list, from which the key
is made; the number is random. The log next to it, ``.jsonl``, names the folder of the files, and
has a line for each file that was decoded: its position in the list, a digest of its row, and what
is remembered of it. A line is written after its pixels.

Only who holds the lock of its log writes to a build, and takes over none of another owner: some
file systems lock files for each machine alone. Rows are verified before they are used, wherever
they come from. A further lock, of the files in any order, only spares others the same work.
"""

import contextlib
import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from glasshouse.cache_contents import CacheEntry, builds_in, cache_folders, owner_of_builds
from glasshouse.cache_pruning import remove_from_cache
from glasshouse.data.embedded import ImageFile
from glasshouse.data.file_index import FileIndex, KnownFile, known_file, unchanged
from glasshouse.file_lock import PathLock, lock_file
from glasshouse.progress import Progress
from glasshouse.storage import sha256_of_bytes

# Names that `cache_contents` knows.
_UNFINISHED, _LOG, _LOCK = ".building-", ".jsonl", ".lock"
# A build that is killed while it decodes loses at most this many images.
_LINES = 32
_DIGEST_BYTES = 8
# Another process that only looks at a lock holds it for an instant.
_TRIES_UNTOLD, _RETRY_S = 5, 0.1


@dataclass
class Build:
    """Pixels on their way to a complete entry.

    path: of the file of pixels, until it gets its name. rows: the positions of the files whose
    pixels are in place. index: what an interrupted build knew of its files.
    """

    path: Path
    pixels: IO[bytes]
    log: IO[bytes]
    row_bytes: int
    rows: set[int] = field(default_factory=set)
    index: FileIndex = field(default_factory=dict)
    has_entries: bool = False
    lines: list[str] = field(default_factory=list)

    def add(self, position: int, pixels: bytes, known: KnownFile) -> None:
        """Put a decoded image in its place; without pixels, what is known of a bad file."""
        if pixels:
            self.copy(position, pixels)
        self.lines.append(json.dumps([position, _digest(pixels), *known]))
        if len(self.lines) >= _LINES:
            self.save()

    def copy(self, position: int, pixels: bytes) -> None:
        """Put the pixels of an older entry in their place, which are copied again if need be."""
        self.pixels.seek(position * self.row_bytes)
        self.pixels.write(pixels)
        self.rows.add(position)

    def row(self, position: int) -> bytes:
        """The pixels at a position."""
        return _row(self.pixels, position, self.row_bytes)

    def save(self) -> None:
        """Have the log name every image that was added."""
        # Even where the power fails in between, the digest tells what is missing.
        self.pixels.flush()
        self.log.write("".join(f"{line}\n" for line in self.lines).encode())
        self.log.flush()
        self.has_entries |= bool(self.lines)
        self.lines.clear()

    def bytes_on_disk(self) -> int:
        """How much of the disk the pixels take already; files have holes where rows are missing."""
        status = os.fstat(self.pixels.fileno())
        blocks = getattr(status, "st_blocks", None)  # Windows has none
        return status.st_size if blocks is None else min(status.st_size, 512 * blocks)


@contextmanager
def building(
    folder: Path,
    paths: Sequence[ImageFile],
    row_bytes: int,
    source: Path,
    progress: Progress | None = None,
) -> Iterator[Build]:
    """A build of these files, to which this process alone writes.

    It continues one of the same list that was interrupted, and waits for one of the same files that
    is under way. After an error it is kept, else whatever is left of it is removed. source: the
    folder of the files. Raises OSError.
    """
    names = [str(path.absolute()) for path in paths]
    lock = _waited_for(folder / f"{_UNFINISHED}{_key(sorted(names))}{_LOCK}", len(paths), progress)
    try:
        with _own_log(folder, _key(names)) as log:
            yield from _built(log, folder, paths, (row_bytes, source), progress)
    finally:
        with contextlib.suppress(OSError):
            lock.path.unlink()
        lock.release()


def forget_builds(source: Path) -> None:
    """Forget the builds whose files are in this folder, or in one above or below it.

    Those that are under way stay: their files are being read.
    """
    for folder in cache_folders():
        remove_from_cache(build for build in builds_in(folder) if _is_of(build, source))


def _is_of(build: CacheEntry, source: Path) -> bool:
    other = Path(build.source)
    is_unknown = not build.source
    return is_unknown or source in (other, *other.parents) or other in source.parents


def _key(names: list[str]) -> str:
    return sha256_of_bytes(os.fsencode("\n".join(names)))[:32]


def _waited_for(path: Path, count: int, progress: Progress | None) -> PathLock:
    tries = 0
    while (lock := lock_file(path)) is None:
        tries += 1
        if progress and tries > _TRIES_UNTOLD:
            progress("waiting for another process that is decoding these images", 0, count)
        time.sleep(_RETRY_S)
    return lock


@contextmanager
def _own_log(folder: Path, key: str) -> Iterator[Path | None]:
    """The log of a build that was interrupted here, else of a new one; None without locks."""
    start = f"{_UNFINISHED}{key}-{owner_of_builds()}-"
    found = sorted(folder.glob(f"{start}*{_LOG}"), key=lambda log: -_size(log))
    for log in (*found, folder / f"{start}{secrets.token_hex(4)}{_LOG}"):
        lock = lock_file(log)
        if lock is not None:
            break
    else:
        raise AssertionError("nobody else has a new name")
    try:
        yield None if lock.handle is None else log
    finally:
        if lock.handle is None and not _size(log):
            with contextlib.suppress(OSError):
                log.unlink()
        lock.release()


def _size(log: Path) -> int:
    with contextlib.suppress(OSError):
        return log.stat().st_size
    return 0


def _built(
    log: Path | None,
    folder: Path,
    paths: Sequence[ImageFile],
    what: tuple[int, Path],
    progress: Progress | None,
) -> Iterator[Build]:
    """The build of a log, which is kept after an error if anything is in it."""
    number = f"{os.getpid()}-{threading.get_ident()}"
    path = folder / f"{_UNFINISHED}{number}" if log is None else log.with_suffix("")
    is_kept = True
    try:
        with _opened(path, Path(os.devnull) if log is None else log, *what) as build:
            try:
                if log is not None:
                    _continue(build, log, paths, progress)
                yield build
                is_kept = False
            finally:
                # The disk may be full, and the pixels closed.
                with contextlib.suppress(OSError, ValueError):
                    build.save()
                is_kept = is_kept and build.has_entries and log is not None
    finally:
        # The log last: pixels without one are of no use.
        for each in () if is_kept else filter(None, (path, log)):
            with contextlib.suppress(OSError):
                each.unlink()


@contextmanager
def _opened(path: Path, log: Path, row_bytes: int, source: Path) -> Iterator[Build]:
    path.touch()
    with path.open("r+b") as pixels, log.open("a+b") as lines:
        has_entries = lines.tell() > 0
        if not has_entries:
            # Without locks, a name may have been somebody else's.
            pixels.truncate()
            lines.write(json.dumps(str(source)).encode() + b"\n")
        yield Build(path, pixels, lines, row_bytes, has_entries=has_entries)


def _continue(
    build: Build, log: Path, paths: Sequence[ImageFile], progress: Progress | None
) -> None:
    """Take over what is known of unchanged files, and the rows that are intact.

    Those of other builds of the list, by another user or on another machine, are copied.
    """
    _take_over(build, build.log, build.pixels, paths, progress)
    # A line that was cut off must not be joined by the next one.
    build.log.write(b"\n")
    key = log.name[: len(_UNFINISHED) + 32]
    for other in sorted(log.parent.glob(f"{key}-*{_LOG}")):
        if other != log:
            with (
                contextlib.suppress(OSError),
                other.open("rb") as lines,
                other.with_suffix("").open("rb") as pixels,
            ):
                _take_over(build, lines, pixels, paths, progress)


def _take_over(
    build: Build,
    log: IO[bytes],
    pixels: IO[bytes],
    paths: Sequence[ImageFile],
    progress: Progress | None,
) -> None:
    for position, digest, known in _entries(log):
        if not 0 <= position < len(paths) or position in build.rows:
            continue
        path = paths[position]
        if unchanged([path], {str(path): known}):
            build.index[str(path)] = known
            row = b"" if known.reason else _row(pixels, position, build.row_bytes)
            is_intact = bool(row) and _digest(row) == digest
            if is_intact and pixels is build.pixels:
                build.rows.add(position)
            elif is_intact:
                build.add(position, row, known)
        if progress:
            progress("verifying decoded images", len(build.index), len(paths))


def _entries(log: IO[bytes]) -> Iterator[tuple[int, str, KnownFile]]:
    log.seek(0)
    log.readline()
    for line in log:
        with contextlib.suppress(ValueError, TypeError):
            position, digest, *known = json.loads(line)
            yield int(position), digest, known_file(*known)


def _row(pixels: IO[bytes], position: int, row_bytes: int) -> bytes:
    pixels.seek(position * row_bytes)
    return pixels.read(row_bytes)


def _digest(pixels: bytes) -> str:
    return hashlib.blake2b(pixels, digest_size=_DIGEST_BYTES).hexdigest()
