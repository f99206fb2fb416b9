"""What the cache folder holds: listed, removed by age or size, and cleared of leftovers.

Decoded images are in ``images/SIZE-RESIZE-VERSION`` and features in ``features/NETWORK``. All files
there whose names begin with the same key are an entry; other files are none of ours and never
touched. A folder in ``sources`` is the copy of a remote source. Builders hold the lock of such a
folder, and readers one on the data that they have mapped, so that nothing in use is removed.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ByteSize, TypeAdapter, ValidationError

from glasshouse.errors import StorageError, UsageError
from glasshouse.file_lock import FolderLock, is_shared
from glasshouse.storage import TEMPORARY, cache_folder, read_json

LIMIT_VARIABLE = "GLASSHOUSE_CACHE_LIMIT"
Kind = Literal["images", "features", "copy", "index", "leftover"]
State = Literal["complete", "unfinished", "damaged", "being built"]

_IMAGE_FOLDER = re.compile(r"(\d+)x(\d+)-(crop|letterbox|stretch)-\w+")
_FEATURE_FOLDER = re.compile(r"[0-9a-f]{32}")
_COPY_FOLDER = re.compile(r"[0-9a-f]{32}")
_KINDS = ("images", "features", "sources")
_ENTRY = re.compile(r"([0-9a-f]{32}(?:-mirrored)?)(|\.json|\.pixels|\.survey|\.npy)")
_INDEX = re.compile(r"index-[0-9a-f]{16}\.json")
# Made by builders, which hold the lock of the folder; storage.TEMPORARY by anybody who replaces a
# small file.
_UNFINISHED = re.compile(r"\.building-\d+-\d+|\..+\.unfinished")
# Replacing a small file takes an instant. Where there are no locks, only age says who is dead.
_OLD_TEMPORARY_S, _OLD_BUILDER_S = 3600.0, 86400.0
# A time that every system can write as a date, whatever a damaged file system says.
_LATEST = 4e9
_SIZE = re.compile(r"\d*\.?\d+\s*[a-z]*", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([mhdw])", re.IGNORECASE)
_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True)
class CacheEntry:
    """Files of the cache that belong together.

    what: in words, such as "2,000 images of 64x64, crop". files: that which makes it complete comes
    first, the data second. used: when it was last read or written, in seconds since 1970. source:
    the folder or network that it was made from, if known.
    """

    kind: Kind
    what: str
    files: tuple[Path, ...]
    size: int
    used: float
    source: str = ""
    state: State = "complete"

    @property
    def is_used(self) -> bool:
        """Whether a process has mapped its data, or is writing it."""
        return self.state == "being built" or any(is_shared(p) for p in self.files if p.is_file())


@dataclass(frozen=True)
class Removal:
    """What was removed, and what was not: in use, or refused by the system."""

    removed: tuple[CacheEntry, ...]
    kept: tuple[tuple[CacheEntry, str], ...] = ()


def list_cache() -> tuple[CacheEntry, ...]:
    """Everything in the cache, the least recently used first; raises StorageError."""
    found = [entry for folder in _folders() for entry in _entries_in(folder)]
    found += map(_copy, _copy_folders())
    return tuple(sorted(found, key=lambda entry: (entry.used, entry.files)))


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
    for path in _hidden_files(folder):
        if not TEMPORARY.fullmatch(path.name) or path.parent != folder or _is_old(path):
            with contextlib.suppress(OSError):
                path.unlink()


def remove_all_leftovers() -> None:
    """Remove what killed builders have left anywhere in the cache."""
    with contextlib.suppress(StorageError):
        for folder in _folders():
            remove_from_cache(_leftovers_in(folder, is_busy=_is_busy(folder)))


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


def _folders() -> Iterator[Path]:
    """The folders of entries, which have one lock each."""
    root = cache_folder()
    for kind, pattern in (("images", _IMAGE_FOLDER), ("features", _FEATURE_FOLDER)):
        for folder in _listed(root / kind):
            if pattern.fullmatch(folder.name) and folder.is_dir():
                yield folder


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(
            f"cannot read the cache in {cache_folder()}: {error.strerror}. Name another folder "
            "with GLASSHOUSE_CACHE."
        ) from error


def _entries_in(folder: Path) -> Iterator[CacheEntry]:
    by_key: dict[str, list[Path]] = {}
    for path in _listed(folder):
        if match := _ENTRY.fullmatch(path.name):
            by_key.setdefault(match[1], []).append(path)
        elif _INDEX.fullmatch(path.name):
            yield _index(path)
    is_busy = _is_busy(folder)
    make = _image_entry if folder.parent.name == "images" else _feature_entry
    for paths in by_key.values():
        entry = make(folder, paths)
        is_being_built = is_busy and entry.state != "complete"
        yield replace(entry, state="being built") if is_being_built else entry
    yield from _leftovers_in(folder, is_busy=is_busy)


def _copy_folders() -> Iterator[Path]:
    """The folders of copies; an empty one is that of a copy that was removed."""
    for folder in _listed(cache_folder() / "sources"):
        if _COPY_FOLDER.fullmatch(folder.name) and _listed(folder):
            yield folder


def _copy(folder: Path) -> CacheEntry:
    fetched = folder / "fetched.jsonl"
    count = 0
    with contextlib.suppress(OSError):
        count = fetched.read_bytes().count(b"\n")
    record = folder / "copy.json"
    # The list goes first: without it, everything is fetched again.
    others = (fetched, folder / "parts", folder / "files")
    order = [record, *(path for path in others if path.exists())]
    size, used = _size_and_time(order)
    source = _record(record).get("source")
    state: State = "being built" if _is_busy(folder) else "complete" if count else "unfinished"
    what = f"copy of {count:,} files"
    known = source if isinstance(source, str) else ""
    return CacheEntry("copy", what, tuple(order), size, used, known, state)


def _is_busy(folder: Path) -> bool:
    """Whether a process is building an entry in this folder."""
    lock = FolderLock(folder)
    try:
        return not lock.acquire(wait=False)
    except OSError:
        return False
    finally:
        lock.release()


def _index(path: Path) -> CacheEntry:
    values = _record(path)
    # As the names were given: relative ones need not be below the folder that this runs in.
    folders = {str(Path(name).parent) for name in values}
    source = ""
    with contextlib.suppress(ValueError):  # none, several drives of Windows, or some relative
        source = _made_from(Path(os.path.commonpath(folders)))
    size, used = _size_and_time([path])
    state: State = "complete" if values else "damaged"
    what = f"index of {len(values):,} files, {_fitting(path.parent)}"
    return CacheEntry("index", what, (path,), size, used, source, state)


def _made_from(folder: Path) -> str:
    """What a folder of files is called: one in a copy, by what that is a copy of."""
    place = next((p for p in folder.parents if p.parent == cache_folder() / "sources"), None)
    known = "" if place is None else _record(place / "copy.json").get("source")
    return str(known or folder)


def _image_entry(folder: Path, paths: list[Path]) -> CacheEntry:
    files = {path.suffix: path for path in paths}
    values = _record(files.get(".json"))
    digests = values.get("digests")
    count = len(digests) if isinstance(digests, list) else 0
    match = _IMAGE_FOLDER.fullmatch(folder.name)
    assert match
    wanted = 3 * int(match[1]) * int(match[2]) * count
    is_whole = {".json", ".pixels", ".survey"} <= files.keys()
    is_sound = is_whole and wanted > 0 and _size_and_time([files[".pixels"]])[0] == wanted
    what = f"{count:,} images, {_fitting(folder)}"
    return _entry("images", what, files, "complete" if is_sound else "damaged", values)


def _feature_entry(folder: Path, paths: list[Path]) -> CacheEntry:
    files = {path.suffix: path for path in paths}
    values = _record(files.get(".json"))
    is_whole = {".json", ".npy"} <= files.keys()
    is_sound = is_whole and _size_and_time([files[".npy"]])[0] == values.get("bytes")
    # Blocks of rows: an extraction that was interrupted, and resumes from them.
    state: State = "complete" if is_sound else "unfinished" if files.keys() == {""} else "damaged"
    what = "features, mirrored images" if "-mirrored" in paths[0].name else "features"
    return _entry("features", what, files, state, values)


def _entry(
    kind: Kind, what: str, files: dict[str, Path], state: State, values: dict[str, Any]
) -> CacheEntry:
    order = [
        files[ending] for ending in (".json", ".pixels", ".npy", ".survey", "") if ending in files
    ]
    size, used = _size_and_time(order)
    source = values.get("source")
    return CacheEntry(
        kind=kind,
        what=what,
        files=tuple(order),
        size=size,
        used=used,
        source=source if isinstance(source, str) else "",
        state=state,
    )


def _leftovers_in(folder: Path, *, is_busy: bool) -> Iterator[CacheEntry]:
    for path in _hidden_files(folder):
        size, used = _size_and_time([path])
        yield CacheEntry(
            kind="leftover",
            what="being written" if is_busy else "left by a process that was stopped",
            files=(path,),
            size=size,
            used=used,
            state="being built" if is_busy else "unfinished",
        )


def _hidden_files(folder: Path) -> Iterator[Path]:
    """Temporary files of the folder, and of the blocks of features in it."""
    for path in [*folder.glob(".*"), *folder.glob("*/.*")]:
        if _UNFINISHED.fullmatch(path.name) or TEMPORARY.fullmatch(path.name):
            yield path


def _is_old(path: Path, seconds: float = _OLD_TEMPORARY_S) -> bool:
    return _size_and_time([path])[1] < time.time() - seconds


def _remove(entry: CacheEntry) -> str:
    """Remove the files of an entry; returns why they were kept, or nothing."""
    folder = next(p for p in entry.files[0].parents if p.parent.name in _KINDS)
    lock = FolderLock(folder)
    try:
        # Another process is building here, and may be copying from any entry.
        if not lock.acquire(wait=False) or entry.is_used:
            return "in use"
        if entry.kind == "leftover" and not _is_dead(entry.files[0], lock):
            return "in use"
        # The data first: where the system refuses that, the entry is still complete.
        for path in (*entry.files[1:], entry.files[0]):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return str(error.strerror)
    finally:
        lock.release()
    return ""


def _is_dead(path: Path, lock: FolderLock) -> bool:
    """Whether whoever wrote a temporary file does so no more."""
    if lock.handle is None:
        return _is_old(path, _OLD_BUILDER_S)
    return not TEMPORARY.fullmatch(path.name) or path.parent != lock.folder or _is_old(path)


def _record(path: Path | None) -> dict[str, Any]:
    """The values of a record or an index; none if it is missing or damaged."""
    with contextlib.suppress(StorageError):
        values = read_json(path) if path is not None else None
        if isinstance(values, dict):
            return values
    return {}


def _size_and_time(paths: Iterable[Path]) -> tuple[int, float]:
    """Bytes of files and folders, and when the newest was changed; what is gone has none."""
    size, newest = 0, 0.0
    for path in paths:
        for each in path.rglob("*") if path.is_dir() else [path]:
            with contextlib.suppress(OSError):
                status = each.stat()
                size += status.st_size
                newest = max(newest, min(status.st_mtime, _LATEST))
    return size, newest


def _fitting(folder: Path) -> str:
    size, resize, _ = folder.name.split("-", 2)
    return f"{size}, {resize}"
