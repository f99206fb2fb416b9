"""What is remembered of image files, so that thousands need not be opened to be recognised."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from glasshouse.errors import StorageError
from glasshouse.storage import read_json


class KnownFile(NamedTuple):
    """What is remembered of a file: its size and time, its digest, why it is bad if it is.

    changed: time of the last change in nanoseconds. height, width: of the upright image.
    """

    file_bytes: int
    changed: int
    sha256: str
    reason: str
    height: int
    width: int
    oddities: tuple[str, ...]


# The key is the path.
FileIndex = dict[str, KnownFile]


def read_index(path: Path) -> FileIndex:
    """An index as write_json stored it; empty when it is missing, damaged or of an older form."""
    try:
        return {str(name): _known_file(*values) for name, values in read_json(path).items()}
    except (StorageError, AttributeError, TypeError, ValueError):
        return {}


def unchanged(paths: Sequence[Path], index: FileIndex) -> FileIndex:
    """The entries of the files whose size and time are still those in the index."""
    known = {}
    for path in paths:
        entry = index.get(str(path))
        # No digest: the decoding process died, perhaps by accident; the file is tried again.
        if entry and entry.sha256 and entry[:2] == size_and_time(path):
            known[str(path)] = entry
    return known


def size_and_time(path: Path) -> tuple[int, int]:
    """Bytes, and nanoseconds of the last change; -1 for a file that is not there."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    return -1, -1


def readable(paths: Sequence[Path], index: FileIndex) -> list[int]:
    """Positions of the files that are images."""
    return [number for number, path in enumerate(paths) if not index[str(path)].reason]


def _known_file(*values: Any) -> KnownFile:
    # An index of an earlier version has fewer values: ValueError, and the files are read again.
    *numbers, digest, reason, height, width, oddities = values
    size, time = numbers
    return KnownFile(
        file_bytes=int(size),
        changed=int(time),
        sha256=str(digest),
        reason=str(reason),
        height=int(height),
        width=int(width),
        oddities=tuple(oddities),
    )
