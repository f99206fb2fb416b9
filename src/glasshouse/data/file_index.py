"""What is remembered of image files, so that thousands need not be opened to be recognised."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from glasshouse.data.embedded import ImageFile
from glasshouse.errors import StorageError
from glasshouse.storage import read_json


class KnownFile(NamedTuple):
    """What is remembered of a file: its stamp, its digest, why it is bad if it is.

    changed: time of the last change in nanoseconds, which programs can set; stamped: that of the
    last change of the content or of such facts, which they cannot.
    height, width: of the upright image. oddities, narrow: as in its header.
    """

    file_bytes: int
    changed: int
    stamped: int
    inode: int
    sha256: str
    reason: str
    height: int
    width: int
    oddities: tuple[str, ...]
    narrow: str


# The key is the path.
FileIndex = dict[str, KnownFile]


def read_index(path: Path) -> FileIndex:
    """An index as write_json stored it; empty when it is missing, damaged or of an older form."""
    try:
        return {str(name): known_file(*values) for name, values in read_json(path).items()}
    except (StorageError, AttributeError, TypeError, ValueError):
        return {}


def unchanged(paths: Sequence[ImageFile], index: FileIndex) -> FileIndex:
    """The entries of the files whose stamps are still those in the index."""
    known = {}
    for path in paths:
        entry = index.get(str(path))
        # No digest: the decoding process died, perhaps by accident; the file is tried again.
        if entry and entry.sha256 and entry[:4] == file_stamp(path):
            known[str(path)] = entry
    return known


def file_stamp(path: ImageFile) -> tuple[int, int, int, int]:
    """What changes with the content: size, both times and inode; -1 for a file that is not there.

    Size and time of the last change alone stay equal where an archive is unpacked or a copy keeps
    the times: images of one size without compression have files of one size.
    """
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    return -1, -1, -1, -1


def readable(paths: Sequence[ImageFile], index: FileIndex) -> list[int]:
    """Positions of the files that are images."""
    return [number for number, path in enumerate(paths) if not index[str(path)].reason]


def known_file(*values: Any) -> KnownFile:
    """What is remembered of a file, from JSON; raises TypeError or ValueError for anything else."""
    # An index of an earlier version has fewer values: ValueError, and the files are read again.
    *numbers, digest, reason, height, width, oddities, narrow = values
    size, changed, stamped, inode = numbers
    return KnownFile(
        file_bytes=int(size),
        changed=int(changed),
        stamped=int(stamped),
        inode=int(inode),
        sha256=str(digest),
        reason=str(reason),
        height=int(height),
        width=int(width),
        oddities=tuple(oddities),
        narrow=str(narrow),
    )
