"""The cache folder made smaller: entries removed by age or size, and leftovers of killed builders.

Nothing that a process reads or builds is removed.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ByteSize, TypeAdapter, ValidationError

from glasshouse.cache_contents import (
    CacheEntry,
    builds_in,
    cache_folders,
    hidden_files,
    leftovers_in,
    list_cache,
    own_parts,
    parts_in,
    size_and_time,
    unfinished_results,
)
from glasshouse.errors import StorageError, UsageError
from glasshouse.file_lock import PathLock, lock_file
from glasshouse.storage import TEMPORARY

LIMIT_VARIABLE = "GLASSHOUSE_CACHE_LIMIT"

# Replacing a small file takes an instant. Where there are no locks, only age says who is dead.
_OLD_TEMPORARY_S, _OLD_BUILDER_S = 3600.0, 86400.0
# What was interrupted, and its command would continue.
_OLD_BUILD_S = 7 * 86400.0
_SIZE = re.compile(r"\d*\.?\d+\s*[a-z]*", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([mhdw])", re.IGNORECASE)
_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True)
class Removal:
    """What was removed, and what was not: in use, or refused by the system."""

    removed: tuple[CacheEntry, ...]
    kept: tuple[tuple[CacheEntry, str], ...] = ()


def remove_from_cache(entries: Iterable[CacheEntry]) -> Removal:
    """Remove entries, except those that are in use."""
    removed: list[CacheEntry] = []
    kept: list[tuple[CacheEntry, str]] = []
    for entry in entries:
        reason = _remove(entry)
        if reason:
            kept.append((entry, reason))
        else:
            removed.append(entry)
    return Removal(tuple(removed), tuple(kept))


def prune_cache(unused_s: float) -> Removal:
    """Remove what was not used for this many seconds, and everything that is damaged."""
    # Everything, whatever the clock of the machine that wrote it said.
    before = time.time() - unused_s if unused_s else float("inf")
    return remove_from_cache(
        entry
        for entry in list_cache()
        if entry.used <= before or entry.state == "damaged" or entry.kind == "leftover"
    )


def shrink_cache(most_bytes: int) -> Removal:
    """Remove the least recently used entries until the cache has at most this many bytes.

    What is damaged goes first. An index is small, and without it all its files are read again.
    """
    entries = list_cache()
    total = sum(entry.size for entry in entries)
    order = sorted(entries, key=lambda e: e.state != "damaged" and e.kind != "leftover")
    removed: list[CacheEntry] = []
    kept: list[tuple[CacheEntry, str]] = []
    for entry in order:
        if total <= most_bytes:
            break
        if entry.kind == "index":
            continue
        done = remove_from_cache([entry])
        removed += done.removed
        kept += done.kept
        total -= sum(each.size for each in done.removed)
    return Removal(tuple(removed), tuple(kept))


def remove_leftovers(folder: Path) -> None:
    """Remove what killed builders have left in a folder whose lock the caller holds."""
    for path in hidden_files(folder):
        if not TEMPORARY.fullmatch(path.name) or path.parent != folder or _is_old(path):
            with contextlib.suppress(OSError):
                path.unlink()


def remove_all_leftovers() -> None:
    """Remove what killed builders have left anywhere in the cache, and nobody has continued."""
    with contextlib.suppress(StorageError):
        before = time.time() - _OLD_BUILD_S
        remove_from_cache(entry for entry in unfinished_results() if entry.used <= before)
        for folder in cache_folders():
            remove_from_cache(leftovers_in(folder))
            remove_from_cache(builds_in(folder, unused_since=before))
            for lock in folder.glob(".building-*.lock"):
                # Without it, two may decode the same files, and nothing worse.
                if _is_old(lock, _OLD_BUILD_S):
                    with contextlib.suppress(OSError):
                        lock.unlink()


def remove_old_parts(copy: Path, own: Path) -> None:
    """Remove what others were fetching into the folder of a copy, and left a day or more ago."""
    for parts in parts_in(copy):
        if parts != own and _is_old(parts, _OLD_BUILDER_S):
            shutil.rmtree(parts, ignore_errors=True)


def cache_limit() -> int | None:
    """The size in bytes that ``GLASSHOUSE_CACHE_LIMIT`` sets; None without a limit.

    Raises UsageError when it is not a size.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    return parse_size(text, LIMIT_VARIABLE) if text else None


def keep_limit() -> None:
    """Remove the least recently used entries where the cache exceeds its limit."""
    limit = cache_limit()
    if limit is not None:
        # A cache that cannot be listed was of use all the same.
        with contextlib.suppress(StorageError):
            shrink_cache(limit)


def parse_size(text: str, name: str) -> int:
    """Bytes from a text such as "5GB", "500 MB" or "1.5GiB"; name: what errors call it."""
    # ByteSize reads as far as it understands: "1,5GB" would be 1 byte, and empty the cache.
    if _SIZE.fullmatch(text.strip()):
        with contextlib.suppress(ValidationError):
            return int(TypeAdapter(ByteSize).validate_python(text))
    raise UsageError(f"{name}: expected a size such as 5GB or 500MB, received '{text}'")


def parse_age(text: str, name: str) -> float:
    """Seconds from a text such as "30d", "12h" or "all", which is zero; name as in `parse_size`."""
    if text.strip().lower() == "all":
        return 0.0
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{name}: expected an age such as 30d, 12h or 2w, or all; received '{text}'"
        )
    return float(match[1]) * _SECONDS[match[2].lower()]


def _is_old(path: Path, seconds: float = _OLD_TEMPORARY_S) -> bool:
    newest = size_and_time([path])[1]
    # A folder in which there is nothing yet was made just now.
    with contextlib.suppress(OSError):
        newest = max(newest, path.stat().st_mtime)
    return newest < time.time() - seconds


def _remove(entry: CacheEntry) -> str:
    """Remove the files of an entry; returns why they were kept, or nothing."""
    try:
        lock = _lock_of(entry)
        if lock is None:
            return "in use"
        try:
            return _remove_files(entry, lock)
        finally:
            lock.release()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return str(error.strerror)


def _remove_files(entry: CacheEntry, lock: PathLock) -> str:
    is_hidden = entry.kind == "leftover" or entry.is_build
    if not _is_dead(entry, lock) if is_hidden else entry.is_used or _is_fetched(entry, lock):
        return "in use"
    # The data first: where the system refuses that, the entry is still complete.
    for path in (*entry.files[1:], entry.files[0]):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return ""


def _lock_of(entry: CacheEntry) -> PathLock | None:
    """The lock of an entry's builder; None while that holds it."""
    if entry.is_build:
        return lock_file(entry.locked)
    lock = PathLock(entry.locked)
    return lock if lock.acquire(wait=False) else None


def _is_fetched(entry: CacheEntry, lock: PathLock) -> bool:
    """Whether files may be on their way into a copy, by another machine or without locks."""
    if entry.kind != "copy":
        return False
    known_dead = () if lock.handle is None else (own_parts(entry.locked),)
    parts = (path for path in parts_in(entry.locked) if path not in known_dead)
    return not all(_is_old(path, _OLD_BUILDER_S) for path in parts)


def _is_dead(entry: CacheEntry, lock: PathLock) -> bool:
    """Whether whoever wrote temporary files does so no more."""
    first = entry.files[0]
    # Some file systems lock files for each machine alone; a builder writes all the time.
    if lock.handle is None or entry.is_of_another:
        return all(_is_old(path, _OLD_BUILDER_S) for path in entry.files)
    return not TEMPORARY.fullmatch(first.name) or first.parent != lock.path or _is_old(first)
