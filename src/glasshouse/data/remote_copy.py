"""The copy of a remote source in the cache: each file is fetched once, and again when it changes.

A copy is a folder named by the address, with ``copy.json``, which says what it is a copy of;
``fetched.jsonl``, a line with the version of each file that is complete; and ``files``, which is
then read as any local folder. Whoever was interrupted continues with what is missing, also in the
middle of a large file. Files whose content is of no use to a reader are empty, so that they are
noticed as they would be in a local folder.

Some file systems lock files for each machine alone. There, each machine fetches what it misses: a
file grows in a folder of its own user and machine, ``parts-<owner>``, and moves when it is whole.
"""

import filecmp
import itertools
import json
import secrets
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from glasshouse.cache_contents import own_parts
from glasshouse.cache_pruning import keep_limit, remove_old_parts
from glasshouse.data.addresses import normal_address
from glasshouse.data.remote_store import THREADS, RemoteFile, RemoteStore, require_protocol
from glasshouse.errors import DataError, StorageError, UsageError
from glasshouse.file_lock import PathLock, locked_folder, share
from glasshouse.progress import Progress
from glasshouse.storage import (
    cache_folder,
    mark_used,
    require_disk_space,
    sha256_of_bytes,
    write_advice,
    write_json,
    write_text,
)

# Names that `cache_contents` knows.
_RECORD, _FETCHED, _FILES = "copy.json", "fetched.jsonl", "files"
# Larger files are fetched in blocks of this size, so that an interrupted one continues.
_BLOCK_BYTES = 8 << 20
# Another process that only looks at a lock holds it for an instant.
_TRIES_UNTOLD, _RETRY_S = 5, 0.1
# What a reader needs of a source, of all that is there.
Choice = Callable[[Sequence[RemoteFile]], Collection[str]]


@dataclass(frozen=True)
class SourceCopy:
    """A copy of a remote source: where it is, and what it is a copy of.

    held: an open file, which keeps the copy from being removed while it is used.
    """

    address: str
    folder: Path
    held: IO[bytes] | None = field(default=None, compare=False, repr=False)

    def shown(self, text: str) -> str:
        """A text about files of the copy as one about the files at the address."""
        return text.replace(str(self.folder), self.address)


def require_remote(address: str, *, offline: bool = False) -> str:
    """The address as it is recorded; connects to nothing.

    Raises UsageError for credentials in it, a protocol that is unknown or whose package is not
    installed, and where connections are not allowed.
    """
    known = normal_address(address)
    if offline:
        raise UsageError(
            f"--offline allows no connection to another host, but {known} is on one: copy it to "
            "a local folder, or leave --offline out"
        )
    require_protocol(known)
    return known


def copy_source(
    address: str, choose: Choice, *, offline: bool = False, progress: Progress | None = None
) -> SourceCopy:
    """Fetch what is new or has changed since the last time, and return the whole copy.

    choose: the names of the files whose content is needed. Raises UsageError as `require_remote`
    does, DataError for what cannot be read, and StorageError where the disk is too small; what was
    fetched until then is kept.
    """
    address = require_remote(address, offline=offline)
    store = RemoteStore(address)
    listed = _without_markers(store.files())
    _require_safe_names(listed, address)
    wanted = set(choose(listed))
    place = _place(address)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (
            _waited_for(place, len(wanted), progress) as is_locked,
            _parts(place, is_locked=is_locked) as parts,
        ):
            record = place / _RECORD
            if not record.is_file():
                write_json(record, {"source": address})
            _Fetching(place, parts, store, progress).bring_up_to_date(listed, wanted)
            mark_used(record)
            held = record.open("rb")
            share(held)
    except OSError as error:
        raise StorageError(
            f"cannot write the copy of {address} in {place}: {error.strerror}. "
            f"{write_advice(place, error)}."
        ) from error
    copy = SourceCopy(address, place / _FILES, held)
    weakref.finalize(copy, held.close)
    # This copy is held, and therefore kept.
    keep_limit()
    return copy


def forget_copy(address: str) -> None:
    """Have all files of a remote source fetched again."""
    place = _place(normal_address(address))
    if place.is_dir():
        with locked_folder(place):
            (place / _FETCHED).unlink(missing_ok=True)
            shutil.rmtree(own_parts(place), ignore_errors=True)
            # A file whose content turns out to be the same stays, and is to be decoded again.
            for path in (place / _FILES).rglob("*"):
                mark_used(path)


def fetched_names(address: str) -> set[str]:
    """The files of a remote source whose content is in its copy."""
    fetched, _ = _fetched(_place(normal_address(address)))
    return {name for name, version in fetched.items() if version}


def _place(address: str) -> Path:
    return cache_folder() / "sources" / sha256_of_bytes(address.encode("utf-8"))[:32]


@contextmanager
def _waited_for(place: Path, count: int, progress: Progress | None) -> Iterator[bool]:
    """Hold the lock of a copy, and say that it is waited for; False where there are no locks."""
    lock = PathLock(place)
    for tries in itertools.count(1):
        if lock.acquire(wait=False):
            break
        if progress and tries > _TRIES_UNTOLD:
            progress("waiting for another process that is fetching these files", 0, count)
        time.sleep(_RETRY_S)
    try:
        yield lock.handle is not None
    finally:
        lock.release()


@contextmanager
def _parts(place: Path, *, is_locked: bool) -> Iterator[Path]:
    """A folder for files that are not whole yet, in which nobody else writes; kept after an error.

    Not where there are no locks: nobody could know whether another process still writes there.
    """
    folder = own_parts(place)
    if not is_locked:
        folder = folder.with_name(f"{folder.name}-{secrets.token_hex(4)}")
    # Before others find it too old.
    mark_used(folder)
    remove_old_parts(place, folder)
    is_kept = is_locked
    try:
        yield folder
        is_kept = False
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)


def _without_markers(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """The files without the empty ones by which some tools mark a folder in a store."""
    folders = {str(parent) for file in files for parent in PurePosixPath(file.name).parents}
    return [file for file in files if file.size or file.name not in folders]


def _require_safe_names(files: Iterable[RemoteFile], address: str) -> None:
    """Raise DataError for names that would be written elsewhere, or over each other."""
    seen: dict[PurePosixPath, str] = {}
    for file in files:
        path = PurePosixPath(file.name)
        # A server may send any name; a backslash and a colon lead elsewhere on Windows.
        is_plain = file.name and not path.is_absolute() and ".." not in path.parts
        if not is_plain or set("\0\\:") & set(file.name):
            raise DataError(
                f"{address} has a file named {file.name!r}: expected relative names without "
                "'..', backslashes and colons; rename it"
            )
        if path in seen:
            raise DataError(f"{address}: {file.name!r} and {seen[path]!r} would be the same file")
        seen[path] = file.name
    for path, name in seen.items():
        if folder := next((p for p in path.parents if p in seen), None):
            raise DataError(f"{address}: {seen[folder]!r} is a file, and {name!r} is in it")


class _Fetching:
    """Brings a copy up to date; whoever uses it holds the lock of its folder, if there are locks.

    parts: a folder to which nobody else writes.
    """

    def __init__(
        self, place: Path, parts: Path, store: RemoteStore, progress: Progress | None
    ) -> None:
        self.place, self.parts, self.store, self.progress = place, parts, store, progress
        self.done = 0
        self.lock = threading.Lock()

    def bring_up_to_date(self, listed: Sequence[RemoteFile], wanted: Collection[str]) -> None:
        fetched, lines = _fetched(self.place)
        # An empty file stands for one that nobody reads, until somebody does.
        versions = {f.name: f"{f.size} {f.version}" if f.name in wanted else "" for f in listed}
        kept = {
            f.name: versions[f.name]
            for f in listed
            if self._is_current(f, fetched.get(f.name), versions[f.name])
        }
        for name in fetched.keys() - versions.keys():
            self._remove(self._path(name))
        # Damaged lines go as well, and those that are there twice: one that was cut off would be
        # joined by the next.
        if len(kept) != lines:
            write_text(self.place / _FETCHED, "".join(_line(*pair) for pair in kept.items()))
        todo = [file for file in listed if file.name not in kept]
        self._require_space([file for file in todo if file.name in wanted])
        unread = [file for file in todo if file.name not in wanted]
        for file in unread:
            path = self._path(file.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        if unread:
            self._log("".join(_line(file.name, "") for file in unread))
        self._fetch_all([file for file in todo if file.name in wanted], versions)

    def _log(self, lines: str) -> None:
        # Opened each time: another machine may have put a new list in the place of the last one.
        with (self.place / _FETCHED).open("a", encoding="utf-8") as log:
            log.write(lines)

    def _is_current(self, file: RemoteFile, have: str | None, version: str) -> bool:
        # Where a store says nothing of a version, only a new look shows whether it has changed.
        if have is None or have != version or (version and not file.version):
            return False
        with suppress(OSError):
            size = self._path(file.name).stat().st_size
            return size == (file.size if version else 0) or (bool(version) and file.size is None)
        return False

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        # An empty folder would be a class without images.
        with suppress(OSError):
            while path.parent != self.place / _FILES:
                path = path.parent
                path.rmdir()

    def _path(self, name: str) -> Path:
        return self.place / _FILES / name

    def _part(self, file: RemoteFile, version: str = "") -> Path:
        """Where a file grows; another version of it does elsewhere.

        version: that at the first block, which may be newer than the listed one.
        """
        key = sha256_of_bytes(f"{file.name}\n{file.size}\n{file.version}".encode())[:32]
        return self.parts / (f"{key}-{sha256_of_bytes(version.encode())[:32]}" if version else key)

    def _require_space(self, todo: Sequence[RemoteFile]) -> None:
        needed = sum(file.size or 0 for file in todo)
        have = sum(part.stat().st_size for part in self.parts.glob("*"))
        require_disk_space(self.place, needed - have, f"the copy of {self.store.address}")

    def _fetch_all(self, todo: Sequence[RemoteFile], versions: dict[str, str]) -> None:
        def fetch(file: RemoteFile) -> None:
            self._fetch(file)
            with self.lock:
                # Now: what was fetched must be known, however this process ends.
                self._log(_line(file.name, versions[file.name]))
                self.done += 1
                if self.progress:
                    self.progress("fetching files", self.done, len(todo))

        with _threads(self.store) as pool:
            waiting: list[Future[None]] = [pool.submit(fetch, file) for file in todo]
            wait(waiting, return_when=FIRST_EXCEPTION)
            for future in waiting:
                if future.done():
                    future.result()

    def _fetch(self, file: RemoteFile) -> None:
        self.parts.mkdir(exist_ok=True)
        if file.size is None or file.size <= _BLOCK_BYTES:
            part = self._part(file)
            part.write_bytes(self.store.read(file))
        else:
            part = self._fetch_blocks(file, file.size)
        path = self._path(file.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        _move(part, path)

    def _fetch_blocks(self, file: RemoteFile, size: int) -> Path:
        """The whole content of a large file; blocks of the same version are continued."""
        version = self.store.version_now(file)
        part = self._part(file, version)
        for left in self.parts.glob(f"{self._part(file).name}*"):
            # Where a store says nothing of a version, they may be of any.
            if left != part or not version:
                left.unlink()
        with part.open("ab") as growing:
            while (start := growing.tell()) < size:
                data = self.store.read(file, start, min(start + _BLOCK_BYTES, size))
                if len(data) == size:
                    # A server that knows no ranges sends the whole file.
                    growing.truncate(0)
                growing.write(data)
        if part.stat().st_size != size or self.store.version_now(file) != version:
            part.unlink()
            raise DataError(
                f"{self.store.address}: {file.name} was replaced while it was read. Try again when "
                "it is complete."
            )
        return part


def _fetched(place: Path) -> tuple[dict[str, str], int]:
    """The version of each file that is complete, and the number of lines that were read."""
    found: dict[str, str] = {}
    lines: list[bytes] = []
    with suppress(OSError):
        lines = (place / _FETCHED).read_bytes().splitlines()
    for line in lines:
        # One may have been cut off, or written over by another machine.
        with suppress(ValueError, TypeError):
            name, version = json.loads(line)
            found[name] = version
    return found, len(lines)


def _move(part: Path, path: Path) -> None:
    """Give a whole file its name, unless the same is there already.

    Another machine may have put it there, and be reading it.
    """
    with suppress(OSError):
        if filecmp.cmp(part, path, shallow=False):
            part.unlink()
            return
    part.replace(path)


@contextmanager
def _threads(store: RemoteStore) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="glasshouse-fetch")
    try:
        yield pool
    finally:
        # After an error or Ctrl-C, only what is under way is waited for.
        store.closed.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _line(name: str, version: str) -> str:
    return json.dumps([name, version]) + "\n"
