"""Bounds on what the pages of a Parquet file declare, since its reader allocates that unseen.

The sizes are in the header of each page, in Thrift's compact encoding (parquet.thrift of Apache
Parquet's format, version 2.10), which pyarrow does not show.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from glasshouse.errors import DataError

# A page may be larger only where the file has a good part of it.
_MOST_PAGE_BYTES, _MOST_EXPANSION = 256 << 20, 4
# By old versions of parquet-mr, the size of a column leaves out the header of its dictionary.
_MOST_UNCOUNTED_BYTES = 100
# As in pyarrow. The headers of pages consist of structures within structures, and no more.
_MOST_HEADER_BYTES, _DEEPEST = 16 << 20, 4
# Fields of PageHeader, and the first field of DictionaryPageHeader.
_UNPACKED, _STORED, _DICTIONARY, _VALUES = 2, 3, 7, 1
# Thrift's types.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LISTS, _STRUCT = 1, 2, 3, 7, 8, (9, 10), 12


class _Page(NamedTuple):
    """Bytes when unpacked, bytes in the file, and the number of values if it is a dictionary."""

    unpacked: int
    stored: int
    values: int | None


def rows_at_once(path: Path, content: Any, group: int, columns: Sequence[str], most: int) -> int:
    """How many rows of these columns fit into memory at once: at most `most`, at least 1.

    content: the open pyarrow.parquet.ParquetFile. Raises DataError for a page that declares more
    than the file can hold, or more than 256 MiB and four times what is stored.
    """
    parts = content.metadata.row_group(group)
    largest = 0
    with path.open("rb") as file:
        for number in range(parts.num_columns):
            part = parts.column(number)
            name = part.path_in_schema
            if any(name == column or name.startswith(f"{column}.") for column in columns):
                try:
                    largest = max(largest, _largest_dictionary(file, part))
                except (ValueError, OSError) as error:
                    raise DataError(f"{path}, column {name}: {error}") from error
    # Any number of rows may name the same entry of a dictionary, and each gets a copy.
    return max(1, min(most, _MOST_PAGE_BYTES // max(1, largest)))


def _largest_dictionary(file: IO[bytes], part: Any) -> int:
    """The largest dictionary of a column in a group of rows, in bytes; checks its pages."""
    narrowest = 1 if part.physical_type == "FIXED_LEN_BYTE_ARRAY" else 4
    largest = 0
    for page in _pages(file, part):
        if page.unpacked > max(_MOST_PAGE_BYTES, _MOST_EXPANSION * page.stored):
            raise ValueError(
                f"a page is {page.unpacked:,} bytes when unpacked and {page.stored:,} in the file; "
                f"expected at most {_MOST_PAGE_BYTES:,}, or {_MOST_EXPANSION} times what is in the "
                "file. Write it in smaller pages."
            )
        if page.values is not None:
            if not 0 <= page.values <= page.unpacked // narrowest:
                raise ValueError(
                    f"a dictionary of {page.unpacked:,} bytes declares {page.values:,} values. "
                    "The file is damaged; copy or write it again."
                )
            largest = max(largest, page.unpacked)
    return largest


def _pages(file: IO[bytes], part: Any) -> Iterator[_Page]:
    """The headers of a column's pages in a group of rows."""
    # Some writers give 0 where there is no dictionary.
    start = min(part.dictionary_page_offset or part.data_page_offset, part.data_page_offset)
    end = start + part.total_compressed_size
    position = start
    while position < end:
        file.seek(position)
        header = _struct(file, position + _MOST_HEADER_BYTES)
        unpacked, stored = header.get(_UNPACKED), header.get(_STORED)
        position = file.tell()
        room = end + _MOST_UNCOUNTED_BYTES - position
        if not isinstance(unpacked, int) or not isinstance(stored, int):
            raise ValueError(_damaged("has no size"))
        if not 0 <= stored <= room or unpacked < 0:
            raise ValueError(_damaged(f"declares {stored:,} bytes where {room:,} are left"))
        dictionary = header.get(_DICTIONARY)
        values = dictionary.get(_VALUES, -1) if isinstance(dictionary, dict) else None
        yield _Page(unpacked, stored, values)
        position += stored


def _struct(file: IO[bytes], end: int, depth: int = 0) -> dict[int, Any]:
    """The fields of a structure by their numbers; only numbers and structures have a value."""
    found: dict[int, Any] = {}
    number = 0
    while head := _byte(file):
        step, kind = head >> 4, head & 15
        number = number + step if step else _integer(file)
        found[number] = _value(file, kind, end, depth)
    return found


def _value(file: IO[bytes], kind: int, end: int, depth: int) -> Any:
    if depth > _DEEPEST or file.tell() > end:
        raise ValueError(_damaged("is too large"))
    if kind in _NUMBERS:
        return _NUMBERS[kind](file)
    if kind == _STRUCT:
        return _struct(file, end, depth + 1)
    if kind in _LISTS:
        head = _byte(file)
        # As elements, truth values take a byte each.
        of = _BYTE if head & 15 in (_TRUE, _FALSE) else head & 15
        for _ in range(_varint(file) if head >> 4 == 15 else head >> 4):
            _value(file, of, end, depth + 1)
    elif kind in (_DOUBLE, _BINARY):
        length = 8 if kind == _DOUBLE else _varint(file)
        if file.tell() + length > end:
            raise ValueError(_damaged("is too large"))
        file.seek(length, 1)
    else:
        raise ValueError(_damaged(f"has a field of the unknown type {kind}"))
    return None


def _integer(file: IO[bytes]) -> int:
    """A signed number: zigzag encoding has the sign in the lowest bit."""
    number = _varint(file)
    return (number >> 1) ^ -(number & 1)


def _varint(file: IO[bytes]) -> int:
    number = 0
    for shift in range(0, 70, 7):
        byte = _byte(file)
        number |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return number
    raise ValueError(_damaged("has a number that never ends"))


def _byte(file: IO[bytes]) -> int:
    byte = file.read(1)
    if not byte:
        raise ValueError(_damaged("is cut off"))
    return byte[0]


def _damaged(what: str) -> str:
    return f"the header of a page {what}. The file is damaged; copy or write it again."


# The others have no value that matters here.
_NUMBERS: dict[int, Callable[[IO[bytes]], int]] = {
    _TRUE: lambda _: 1,
    _FALSE: lambda _: 0,
    _BYTE: _byte,
    4: _integer,
    5: _integer,
    6: _integer,
}
