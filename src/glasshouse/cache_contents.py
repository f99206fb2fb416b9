"""What the cache folder holds.

Decoded images are in ``images/SIZE-RESIZE-VERSION`` and features in ``features/NETWORK``. All files
there whose names begin with the same key are an entry; other files are none of ours and never
touched. A folder in ``sources`` is the copy of a remote source, with parts of files for each owner,
and one in ``results`` has what a command on a cluster has got so far.

Nothing in use is removed: whoever fills one of these folders holds its lock, whoever decodes images
that of their log, and readers one on the data that they have mapped.
"""

import contextlib
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from glasshouse.errors import StorageError
from glasshouse.file_lock import PathLock, is_shared
from glasshouse.storage import TEMPORARY, cache_folder, read_json, sha256_of_bytes

Kind = Literal["images", "features", "copy", "index", "results", "leftover"]
State = Literal["complete", "unfinished", "damaged", "being built"]

_IMAGE_FOLDER = re.compile(r"(\d+)x(\d+)-(crop|letterbox|stretch)-\w+")
_FEATURE_FOLDER = re.compile(r"[0-9a-f]{32}")
_HASHED_FOLDER = re.compile(r"[0-9a-f]{32}")
# The owner, and a number where there are no locks; earlier versions knew neither.
_PARTS = re.compile(r"parts(-[0-9a-f]{8}){0,2}")
_LOG = ".jsonl"
_KINDS = ("images", "features", "sources", "results")
_ENTRY = re.compile(r"([0-9a-f]{32}(?:-mirrored)?)(|\.json|\.pixels|\.survey|\.npy)")
_INDEX = re.compile(r"index-[0-9a-f]{16}\.json")
# Images that are being decoded, or were before an interruption, and the log of them.
_BUILD = re.compile(r"\.building-[0-9a-f]{32}-([0-9a-f]{8})-[0-9a-f]{8}(|\.jsonl)")
# Of builders who hold the lock of the folder, or know none; storage.TEMPORARY of anybody who
# replaces a small file.
_UNFINISHED = re.compile(r"\.building-\d+-\d+|\..+\.unfinished")
# A time that every system can write as a date, whatever a damaged file system says.
_LATEST = 4e9


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

    @property
    def is_build(self) -> bool:
        """Whether it consists of images that are being decoded, or were before an interruption."""
        return _BUILD.fullmatch(self.files[0].name) is not None

    @property
    def locked(self) -> Path:
        """What its builder holds the lock of."""
        first = self.files[0]
        if self.is_build:
            return first
        return next(path for path in first.parents if path.parent.name in _KINDS)

    @property
    def is_of_another(self) -> bool:
        """Whether another user, or one on another machine, is its builder."""
        match = _BUILD.fullmatch(self.files[0].name)
        return match is not None and match[1] != owner_of_builds()


def owner_of_builds() -> str:
    """What tells this user on this machine from others, in names of builds and of parts."""
    user = getattr(os, "getuid", lambda: "")()
    return sha256_of_bytes(f"{platform.node()} {user}".encode())[:8]


def list_cache() -> tuple[CacheEntry, ...]:
    """Everything in the cache, the least recently used first; raises StorageError."""
    found = [entry for folder in cache_folders() for entry in _entries_in(folder)]
    found += map(_copy, _hashed_folders("sources"))
    found += unfinished_results()
    return tuple(sorted(found, key=lambda entry: (entry.used, entry.files)))


def cache_folders() -> Iterator[Path]:
    """The folders of images and features."""
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
    is_busy = is_busy_at(folder)
    make = _image_entry if folder.parent.name == "images" else _feature_entry
    for paths in by_key.values():
        entry = make(folder, paths)
        is_being_built = is_busy and entry.state != "complete"
        yield replace(entry, state="being built") if is_being_built else entry
    for build in builds_in(folder):
        yield replace(build, source=_made_from(Path(build.source)) if build.source else "")
    yield from leftovers_in(folder)


def builds_in(folder: Path, unused_since: float = float("inf")) -> Iterator[CacheEntry]:
    """Images that are being decoded, or were when their builder was interrupted.

    unused_since: only those that were not written to after this time. source: the folder of the
    files, which may be in a copy.
    """
    names = (_BUILD.fullmatch(path.name) for path in folder.glob(".building-*"))
    for name in sorted({match[0].removesuffix(_LOG) for match in names if match}):
        log, pixels = folder / f"{name}{_LOG}", folder / name
        size, used = size_and_time([log, pixels])
        if used > unused_since:
            continue
        source, done = "", set()
        with contextlib.suppress(OSError, ValueError), log.open("rb") as file:
            source = str(json.loads(file.readline()))
            done = {line.partition(b",")[0] for line in file if line.startswith(b"[")}
        count = f"{len(done):,} {'image' if len(done) == 1 else 'images'}"
        what = f"{count} so far, {_fitting(folder)}"
        found = CacheEntry("images", what, (log, pixels), size, used, source)
        yield replace(found, state="being built" if is_busy_at(found.locked) else "unfinished")


def _hashed_folders(kind: str) -> Iterator[Path]:
    """The folders of copies or results; an empty one is that of an entry that was removed."""
    for folder in _listed(cache_folder() / kind):
        if _HASHED_FOLDER.fullmatch(folder.name) and _listed(folder):
            yield folder


def _copy(folder: Path) -> CacheEntry:
    fetched = folder / "fetched.jsonl"
    count = 0
    with contextlib.suppress(OSError):
        # Two machines may have fetched the same file.
        count = len(set(fetched.read_bytes().splitlines()))
    record = folder / "copy.json"
    # The list goes first: without it, everything is fetched again.
    others = (fetched, *parts_in(folder), folder / "files")
    order = [record, *(path for path in others if path.exists())]
    size, used = size_and_time(order)
    source = _record(record).get("source")
    state: State = "being built" if is_busy_at(folder) else "complete" if count else "unfinished"
    what = f"copy of {count:,} files"
    known = source if isinstance(source, str) else ""
    return CacheEntry("copy", what, tuple(order), size, used, known, state)


def unfinished_results() -> Iterator[CacheEntry]:
    """What commands on a cluster have got that run, or were interrupted."""
    return map(_results, _hashed_folders("results"))


def _results(folder: Path) -> CacheEntry:
    record = folder / "command.json"
    pieces = [path for path in _listed(folder) if path != record]
    size, used = size_and_time([record, *pieces])
    source = _record(record).get("source")
    count = f"{len(pieces):,} {'piece' if len(pieces) == 1 else 'pieces'}"
    return CacheEntry(
        kind="results",
        what=f"results of {count} of a command",
        files=(record, *pieces),
        size=size,
        used=used,
        source=source if isinstance(source, str) else "",
        state="being built" if is_busy_at(folder) else "unfinished",
    )


def parts_in(folder: Path) -> list[Path]:
    """The folders in a copy of files that are being fetched, or were at an interruption."""
    return sorted(path for path in folder.glob("parts*") if _PARTS.fullmatch(path.name))


def own_parts(folder: Path) -> Path:
    """The one of these folders in which this user on this machine continues."""
    return folder / f"parts-{owner_of_builds()}"


def is_busy_at(path: Path) -> bool:
    """Whether a process holds the lock of a folder, or of such a file, in which it builds."""
    lock = PathLock(path)
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
    size, used = size_and_time([path])
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
    is_sound = is_whole and wanted > 0 and size_and_time([files[".pixels"]])[0] == wanted
    what = f"{count:,} images, {_fitting(folder)}"
    return _entry("images", what, files, "complete" if is_sound else "damaged", values)


def _feature_entry(folder: Path, paths: list[Path]) -> CacheEntry:
    files = {path.suffix: path for path in paths}
    values = _record(files.get(".json"))
    is_whole = {".json", ".npy"} <= files.keys()
    is_sound = is_whole and size_and_time([files[".npy"]])[0] == values.get("bytes")
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
    size, used = size_and_time(order)
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


def leftovers_in(folder: Path) -> Iterator[CacheEntry]:
    """Temporary files of builders, which are of use to nobody else."""
    is_busy = is_busy_at(folder)
    for path in hidden_files(folder):
        size, used = size_and_time([path])
        yield CacheEntry(
            kind="leftover",
            what="being written" if is_busy else "left by a process that was stopped",
            files=(path,),
            size=size,
            used=used,
            state="being built" if is_busy else "unfinished",
        )


def hidden_files(folder: Path) -> Iterator[Path]:
    """Temporary files of the folder, and of the blocks of features in it."""
    for path in [*folder.glob(".*"), *folder.glob("*/.*")]:
        if _UNFINISHED.fullmatch(path.name) or TEMPORARY.fullmatch(path.name):
            yield path


def _record(path: Path | None) -> dict[str, Any]:
    """The values of a record or an index; none if it is missing or damaged."""
    with contextlib.suppress(StorageError):
        values = read_json(path) if path is not None else None
        if isinstance(values, dict):
            return values
    return {}


def size_and_time(paths: Iterable[Path]) -> tuple[int, float]:
    """Bytes of files and folders, and when the newest was changed; what is gone has none."""
    size, newest = 0, 0.0
    for path in paths:
        # Also while a folder is read, which fails when that goes.
        with contextlib.suppress(OSError):
            for each in path.rglob("*") if path.is_dir() else [path]:
                with contextlib.suppress(OSError):
                    status = each.stat()
                    size += status.st_size
                    newest = max(newest, min(status.st_mtime, _LATEST))
    return size, newest


def _fitting(folder: Path) -> str:
    size, resize, _ = folder.name.split("-", 2)
    return f"{size}, {resize}"
