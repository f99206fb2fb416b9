"""Images inside a larger file: members of a tar and cells of a Parquet file, read like files.

They have the few methods of a path that readers of image files use, and are read in the process
that decodes nothing: the bytes, not the place, are then passed to a decoder.

Labels are read when a container is listed, and images later: one that was replaced in between would
have other images in the same places. Each image therefore knows the stamp of its container.
"""

import importlib
import io
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from glasshouse.data.decode import MAX_FILE_BYTES
from glasshouse.data.parquet_pages import rows_at_once
from glasshouse.errors import BadImage, DataError

# Rows of a Parquet file that are unpacked at once, if they are not large; two such blocks are kept.
_ROWS_AT_ONCE = 32
_OPEN_READERS = 2
# Bytes of a column that are read ahead.
_READ_AHEAD_BYTES = 1 << 20
_GROUPS_SAMPLED = 20

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """An image in a container; name: what it is called there.

    stamp: that of the container when it was listed, where it is to be compared.
    """

    container: Path
    name: str
    stamp: Stamp | None = field(default=None, kw_only=True, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.container}/{self.name}"

    def __fspath__(self) -> str:
        return str(self)

    def absolute(self) -> Path:
        """Where it would be, if the container were a folder."""
        return self.container.absolute() / self.name

    def stat(self) -> os.stat_result:
        """Of the container: an image in it changes only when that is written anew.

        Raises DataError where it is no longer the one that was listed.
        """
        return self._unchanged(self.container.stat())

    def is_file(self) -> bool:
        """Whether the container is there."""
        return self.container.is_file()

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The bytes of the image as a file."""
        return io.BytesIO(self.read())

    def read(self) -> bytes:
        """The bytes of the image; raises BadImage, and DataError as `stat` does."""
        raise NotImplementedError

    def _unchanged(self, status: os.stat_result) -> os.stat_result:
        if self.stamp not in (None, container_stamp(status)):
            raise DataError(
                f"{self.container} changed while it was read: repeat the command when it is "
                "complete"
            )
        return status

    @property
    def place(self) -> tuple[int, ...]:
        """Where it is in the container: images are read fastest in this order."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class TarMember(EmbeddedImage):
    """An image in a tar, at an offset in bytes."""

    offset: int
    size: int

    def read(self) -> bytes:
        """Its bytes, which are stored one after the other."""
        if self.size > MAX_FILE_BYTES:
            raise BadImage(str(self), f"larger than {MAX_FILE_BYTES >> 20} MiB")
        try:
            with self.container.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
                # Afterwards: of what was open, so nothing else can have been read.
                self._unchanged(os.fstat(file.fileno()))
                return data
        except OSError as error:
            raise BadImage(str(self), f"cannot be read: {error.strerror}") from error

    @property
    def place(self) -> tuple[int, ...]:
        """Its offset."""
        return (self.offset,)


@dataclass(frozen=True, slots=True)
class ParquetCell(EmbeddedImage):
    """An image in a Parquet file: a row within a group of rows, and the column.

    column: that of the bytes, as image.bytes where they are part of a structure.
    """

    group: int
    row: int
    column: str

    def read(self) -> bytes:
        """Its bytes; fast where cells are read in the order in which they are stored."""
        try:
            data = _reader(self).row(self.row)
            # Afterwards: pyarrow opens the file by its name, at the first of its rows.
            status = self.container.stat()
        # pyarrow raises errors of many classes that have no base class in common.
        except Exception as error:
            with suppress(OSError):
                self.stat()
            raise BadImage(str(self), f"cannot be read from its Parquet file: {error}") from error
        self._unchanged(status)
        if not data:
            raise BadImage(str(self), "the cell has no bytes")
        return data

    @property
    def place(self) -> tuple[int, ...]:
        """Its group of rows, and the row in it."""
        return self.group, self.row


ImageFile = Path | EmbeddedImage


def container_stamp(status: os.stat_result) -> Stamp:
    """What changes with the content of a container: its size and both times.

    Without the inode, for which some network file systems have another number at each look.
    """
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def reading_order(files: Sequence[ImageFile]) -> list[int]:
    """Positions of files in the order in which they are read fastest."""
    order = list(range(len(files)))
    if any(isinstance(file, EmbeddedImage) for file in files):
        order.sort(key=lambda number: _sequence(files[number]))
    return order


def sampled(files: Sequence[ImageFile], count: int) -> Sequence[ImageFile]:
    """About this many of the files, spread evenly as far as they can be read quickly."""
    if not any(isinstance(file, ParquetCell) for file in files):
        return files[:: max(1, len(files) // count)]
    # Within a group of rows, reading starts at its first row.
    cells = sorted((file for file in files if isinstance(file, ParquetCell)), key=_sequence)
    groups = [list(each) for _, each in groupby(cells, key=lambda c: (c.container, c.group))]
    chosen = groups[:: max(1, len(groups) // _GROUPS_SAMPLED)]
    return [cell for group in chosen for cell in group[: max(1, count // len(chosen))]]


def _sequence(file: ImageFile) -> tuple[str, tuple[int, ...]]:
    if isinstance(file, EmbeddedImage):
        return str(file.container), file.place
    return str(file), ()


class _CellReader:
    """Reads a column of a group of rows from its start, a block of rows at a time."""

    def __init__(self, cell: ParquetCell) -> None:
        self.cell = cell
        self.lock = threading.Lock()
        self.start = 0
        self.most = _ROWS_AT_ONCE
        self.rows: list[bytes | None] = []
        self.blocks = self._blocks()

    def row(self, number: int) -> bytes | None:
        with self.lock:
            # Threads ask in order, but may overtake each other a little.
            if number < self.start:
                self.start, self.rows, self.blocks = 0, [], self._blocks()
            while number >= self.start + len(self.rows):
                block = next(self.blocks)
                kept = self.rows[-self.most :]
                self.start += len(self.rows) - len(kept)
                self.rows = [*kept, *block]
            return self.rows[number - self.start]

    def _blocks(self) -> Iterator[list[bytes | None]]:
        parquet: Any = importlib.import_module("pyarrow.parquet")
        column, _, part = self.cell.column.partition(".")
        # Buffered: by default, the whole group of rows is read at once.
        options = {"pre_buffer": False, "buffer_size": _READ_AHEAD_BYTES}
        with parquet.ParquetFile(self.cell.container, **options) as content:
            place = {"row_groups": [self.cell.group], "columns": [self.cell.column]}
            self.most = rows_at_once(
                self.cell.container, content, self.cell.group, [self.cell.column], _ROWS_AT_ONCE
            )
            batches = content.iter_batches(batch_size=self.most, use_threads=False, **place)
            for batch in batches:
                values = batch.column(column).to_pylist()
                yield [value and value[part] for value in values] if part else values


_readers: dict[tuple[Path, Stamp, int, str], _CellReader] = {}
_readers_lock = threading.Lock()


def _reader(cell: ParquetCell) -> _CellReader:
    """The reader of the cell's group of rows: of those in use, the last few are kept."""
    stamp = cell.stamp or container_stamp(cell.stat())
    key = (cell.container, stamp, cell.group, cell.column)
    with _readers_lock:
        found = _readers.pop(key, None) or _CellReader(cell)
        _readers[key] = found
        while len(_readers) > _OPEN_READERS:
            del _readers[next(iter(_readers))]
        return found
