"""The pixels of an entry that is being built, and a log from which an interrupted build continues.

``.building-<key>-<owner>`` has a row of pixels for each file of a list, from which its key is made.
The log next to it, ``.jsonl``, names the folder of the files, and has a line for each file that was
decoded: its position in the list, a digest of its row, and what is remembered of it. A line is
written after its pixels. Builders of a key hold the lock of ``.building-<key>.lock``; the owner, a
user on a machine, keeps those apart whose file system does not lock files for all machines.
"""

import contextlib
import hashlib
import json
import os
import platform
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from glasshouse.cache_contents import CacheEntry, builds_in, cache_folders
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
        self.pixels.seek(position * self.row_bytes)
        return self.pixels.read(self.row_bytes)

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
    """The build of these files, which this process is the only one to write.

    It continues an earlier one that was interrupted, and waits for one that is under way. After an
    error it is kept, else whatever is left of it is removed. source: the folder of the files.
    Raises OSError.
    """
    names = os.fsencode("\n".join(str(path.absolute()) for path in paths))
    key = f"{_UNFINISHED}{sha256_of_bytes(names)[:32]}"
    lock = _waited_for(folder / f"{key}{_LOCK}", len(paths), progress)
    # Where there are no locks, others may build the same entry at the same time.
    is_alone = lock.handle is not None
    alone_at = folder / f"{_UNFINISHED}{os.getpid()}-{threading.get_ident()}"
    path = folder / f"{key}-{_owner()}" if is_alone else alone_at
    log = path.with_name(path.name + _LOG)
    is_kept = is_alone
    try:
        with _opened(path, log if is_alone else Path(os.devnull), row_bytes, source) as build:
            try:
                if is_alone:
                    _continue(build, paths, progress)
                yield build
                is_kept = False
            finally:
                # The disk may be full, and the pixels closed.
                with contextlib.suppress(OSError, ValueError):
                    build.save()
                is_kept = is_kept and build.has_entries
    finally:
        # The log last: pixels without one are of no use.
        for each in () if is_kept else (path, log):
            with contextlib.suppress(OSError):
                each.unlink()
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


def _waited_for(path: Path, count: int, progress: Progress | None) -> PathLock:
    what, tries = "waiting for another process that is decoding these images", 0
    while (lock := lock_file(path)) is None:
        tries += 1
        if progress and tries > _TRIES_UNTOLD:
            progress(what, 0, count)
        time.sleep(_RETRY_S)
    if progress and tries > _TRIES_UNTOLD:
        progress(what, count, count)
    return lock


def _owner() -> str:
    """A user on a machine."""
    user = getattr(os, "getuid", lambda: "")()
    return sha256_of_bytes(f"{platform.node()} {user}".encode())[:8]


@contextmanager
def _opened(path: Path, log: Path, row_bytes: int, source: Path) -> Iterator[Build]:
    path.touch()
    with path.open("r+b") as pixels, log.open("a+b") as lines:
        has_entries = lines.tell() > 0
        if not has_entries:
            lines.write(json.dumps(str(source)).encode() + b"\n")
        yield Build(path, pixels, lines, row_bytes, has_entries=has_entries)


def _continue(build: Build, paths: Sequence[ImageFile], progress: Progress | None) -> None:
    """Take over what is known of unchanged files, and the rows that are intact."""
    for position, digest, known in _entries(build.log):
        if not 0 <= position < len(paths):
            continue
        path = paths[position]
        if unchanged([path], {str(path): known}):
            build.index[str(path)] = known
            if not known.reason and _digest(build.row(position)) == digest:
                build.rows.add(position)
        if progress:
            progress("verifying decoded images", len(build.index), len(paths))
    # A line that was cut off must not be joined by the next one.
    build.log.write(b"\n")


def _entries(log: IO[bytes]) -> Iterator[tuple[int, str, KnownFile]]:
    log.seek(0)
    log.readline()
    for line in log:
        with contextlib.suppress(ValueError, TypeError):
            position, digest, *known = json.loads(line)
            yield int(position), digest, known_file(*known)


def _digest(pixels: bytes) -> str:
    return hashlib.blake2b(pixels, digest_size=_DIGEST_BYTES).hexdigest()
