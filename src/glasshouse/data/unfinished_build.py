"""The pixels of an entry that is being built, and a log from which an interrupted build continues.

``.building-<key>`` has a row of pixels for each file of a list, which its key is made from;
``.building-<key>.jsonl`` names the folder that the files are in, and has a line for each file that
was decoded: its place in the list, the checksum of its row, and what is remembered of it. A line is
written after its pixels. Builders hold the lock of the log.
"""

import contextlib
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from glasshouse.data.embedded import ImageFile
from glasshouse.data.file_index import FileIndex, KnownFile, known_file, unchanged
from glasshouse.file_lock import locked_file
from glasshouse.storage import cache_folder, sha256_of_bytes

# Names that `cache_contents` knows.
_UNFINISHED, _LOG = ".building-", ".jsonl"
# A build that is killed loses at most this many images.
_LINES = 32


@dataclass
class Build:
    """Pixels on their way to a complete entry.

    path: of the file of pixels, or what it was before it got its name. rows: the positions of the
    files whose pixels are in their place. index: what an interrupted build knew of its files.
    """

    path: Path
    pixels: IO[bytes]
    log: IO[bytes]
    row_bytes: int
    rows: set[int] = field(default_factory=set)
    index: FileIndex = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def add(self, position: int, pixels: bytes, known: KnownFile) -> None:
        """Put a decoded image in its place; without pixels, what is known of a bad file."""
        if pixels:
            self.pixels.seek(position * self.row_bytes)
            self.pixels.write(pixels)
            self.rows.add(position)
        self.lines.append(json.dumps([position, zlib.crc32(pixels), *known]))
        if len(self.lines) == _LINES:
            self.save()

    def save(self) -> None:
        """Have the log name every image that was added."""
        # Even where the power fails in between, a checksum tells what is missing.
        self.pixels.flush()
        self.log.write("".join(f"{line}\n" for line in self.lines).encode())
        self.log.flush()
        self.lines.clear()


@contextmanager
def building(
    folder: Path,
    paths: Sequence[ImageFile],
    row_bytes: int,
    source: Path,
    waiting: Callable[[], None] | None = None,
) -> Iterator[Build]:
    """The build of these files, which this process is the only one to write.

    It continues an earlier one that was interrupted, and waits for one that is under way, after a
    call of waiting. After an error it is kept, else whatever is left of it is removed. source: the
    folder that the files are in. Raises OSError.
    """
    names = os.fsencode("\n".join(str(path.absolute()) for path in paths))
    path = folder / f"{_UNFINISHED}{sha256_of_bytes(names)[:32]}"
    with locked_file(path.with_name(path.name + _LOG), waiting) as is_alone:
        if not is_alone:
            # Others may build the same entry at the same time.
            path.with_name(path.name + _LOG).unlink(missing_ok=True)
            path = folder / f"{_UNFINISHED}{os.getpid()}-{threading.get_ident()}"
        is_kept = False
        try:
            with _opened(path, row_bytes, source) as build:
                if is_alone:
                    _continue(build, paths)
                try:
                    yield build
                except BaseException:
                    is_kept = is_alone
                    # The disk may be full, or the pixels closed.
                    with contextlib.suppress(OSError, ValueError):
                        build.save()
                    raise
        finally:
            if not is_kept:
                for each in (path, path.with_name(path.name + _LOG)):
                    with contextlib.suppress(OSError):
                        each.unlink()


def forget_builds(source: Path) -> None:
    """Forget the builds whose files are in this folder, or in one above or below it."""
    for log in (cache_folder() / "images").glob(f"*/{_UNFINISHED}*{_LOG}"):
        with contextlib.suppress(OSError, ValueError, TypeError), log.open("rb") as file:
            other = Path(json.loads(file.readline()))
            if source == other or source in other.parents or other in source.parents:
                log.unlink()


@contextmanager
def _opened(path: Path, row_bytes: int, source: Path) -> Iterator[Build]:
    path.touch()
    with path.open("r+b") as pixels, path.with_name(path.name + _LOG).open("a+b") as log:
        if log.tell() == 0:
            log.write(json.dumps(str(source)).encode() + b"\n")
        yield Build(path, pixels, log, row_bytes)


def _continue(build: Build, paths: Sequence[ImageFile]) -> None:
    """Take over the rows whose files are unchanged and whose pixels are intact."""
    build.log.seek(0)
    for position, checksum, known in _entries(build.log.readlines()[1:]):
        if not 0 <= position < len(paths) or not unchanged(
            paths[position : position + 1], {str(paths[position]): known}
        ):
            continue
        if not known.reason:
            build.pixels.seek(position * build.row_bytes)
            if zlib.crc32(build.pixels.read(build.row_bytes)) != checksum:
                continue
            build.rows.add(position)
        build.index[str(paths[position])] = known
    # A line that was cut off must not be joined by the next one.
    build.log.write(b"\n")


def _entries(lines: Iterable[bytes]) -> Iterator[tuple[int, int, KnownFile]]:
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            position, checksum, *known = json.loads(line)
            yield int(position), int(checksum), known_file(*known)
