"""Headers of pages: read as the footer says, and bounded before anything is allocated."""

import io
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from glasshouse.data import parquet_pages
from glasshouse.data.listings import list_source
from glasshouse.data.parquet_pages import rows_at_once
from glasshouse.data.table import list_table
from glasshouse.errors import DataError, GlasshouseError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

COUNT = 3000
KINDS = {
    "text": [f"{k}.png" for k in range(COUNT)],
    "few": [("ant", "bee", None)[k % 3] for k in range(COUNT)],
    "lists": [["a"] * (k % 4) for k in range(COUNT)],
    "numbers": list(range(COUNT)),
    "fractions": [k / 7 for k in range(COUNT)],
    "truth": [k % 2 == 0 for k in range(COUNT)],
    "bytes": [bytes([k % 256]) * (k % 90) for k in range(COUNT)],
    "parts": [{"bytes": b"x", "path": str(k)} for k in range(COUNT)],
    "exact": [Decimal(k % 50) / 10 for k in range(COUNT)],
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"compression": "none", "use_dictionary": False},
    {"compression": "gzip", "data_page_version": "2.0"},
    {"compression": "zstd", "write_page_checksum": True, "data_page_size": 1000},
    {"compression": "snappy", "write_statistics": False, "data_page_version": "2.0"},
    {"compression": "brotli", "row_group_size": 700, "store_decimal_as_integer": True},
]


def test_the_headers_add_up_to_what_the_footer_says(tmp_path: Path) -> None:
    for number, options in enumerate(OPTIONS):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table(KINDS), path, **options)
        metadata = pq.ParquetFile(path).metadata
        for group in range(metadata.num_row_groups):
            for column in range(metadata.num_columns):
                part = metadata.row_group(group).column(column)
                with path.open("rb") as file:
                    pages = list(parquet_pages._pages(file, part))
                stored = sum(page.stored for page in pages)
                headers = part.total_compressed_size - stored
                assert 0 < headers < 200 * len(pages), (options, part)
                unpacked = part.total_uncompressed_size - headers
                assert sum(page.unpacked for page in pages) == unpacked, (options, part)
                has_dictionary = pages[0].values is not None
                assert has_dictionary == part.has_dictionary_page, (options, part)
                assert all(page.values is None for page in pages[1:])


def test_a_dictionary_declares_how_many_values_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"label": ["ant", "bee", "cow", "bee"] * 9}), path)
    with path.open("rb") as file:
        part = pq.ParquetFile(path).metadata.row_group(0).column(0)
        first = next(parquet_pages._pages(file, part))
    # Each text is stored with four bytes for its length.
    assert (first.values, first.unpacked) == (3, 3 * (4 + 3))


def varint(number: int, width: int = 1) -> bytes:
    """A number as Thrift stores it, in at least this many bytes."""
    rest, found = number << 1, bytearray()
    while rest > 127:
        found.append(rest & 127 | 128)
        rest >>= 7
    found.append(rest)
    while len(found) < width:
        found[-1] |= 128
        found.append(0)
    return bytes(found)


@pytest.mark.parametrize(("depth", "is_read"), [(5, True), (6, False)])
def test_structures_within_structures_have_a_limit(depth: int, is_read: bool) -> None:
    file = io.BytesIO(b"\x1c" * (depth - 1) + b"\x15\x02" + b"\0" * depth)
    if is_read:
        found: Any = parquet_pages._struct(file, 100)
        for _ in range(depth - 1):
            found = found[1]
        assert found == {1: 1}
    else:
        with pytest.raises(ValueError, match="too large"):
            parquet_pages._struct(file, 100)


def number_at(data: bytes | bytearray, place: int) -> tuple[int, int]:
    """The number at a place, which is not negative, and the place after it."""
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 127) << shift
        shift, place = shift + 7, place + 1
        if byte < 128:
            return number >> 1, place


def patch(path: Path, column: str, change: Callable[[int, int, int], tuple[int, int, int]]) -> Path:
    """Change what the first page of a column declares: unpacked, stored, and number of values.

    The page has a checksum, which is removed to make room for longer numbers.
    """
    group = pq.ParquetFile(path).metadata.row_group(0)
    part = next(
        group.column(k)
        for k in range(group.num_columns)
        if group.column(k).path_in_schema == column
    )
    data = bytearray(path.read_bytes())
    start = part.dictionary_page_offset or part.data_page_offset
    _, place = number_at(data, start + 1)
    unpacked, end = number_at(data, place + 1)
    stored, end = number_at(data, end + 1)
    _, end = number_at(data, end + 1)
    # The structure of a dictionary or of a page of data, and its first field.
    kind = {0x3C: b"\x4c", 0x1C: b"\x2c"}[data[end]]
    assert data[end + 1] == 0x15
    values, end = number_at(data, end + 2)
    unpacked, stored, values = change(unpacked, stored, values)
    new = b"\x15" + varint(unpacked) + b"\x15" + varint(stored) + kind + b"\x15"
    spare = end - place - len(new)
    assert spare >= len(varint(values))
    data[place:end] = new + varint(values, spare)
    path.write_bytes(data)
    return path


def write(file: Path, /, *, dictionary: bool = False, **columns: Any) -> Path:
    pq.write_table(
        pa.table(columns), file, use_dictionary=dictionary, write_page_checksum=True,
        write_statistics=False, dictionary_pagesize_limit=1 << 30, compression="gzip",
        # Without it, all columns come back as the types of Parquet.
        store_schema=False,
    )  # fmt: skip
    return file


def a_table(path: Path, *, dictionary: bool = False) -> Path:
    names = [f"{k}.png" for k in range(100)]
    return write(path, dictionary=dictionary, path=names, label=["ant", "bee"] * 50)


def images(path: Path, *, dictionary: bool = False) -> Path:
    data = [bytes([k]) * 40 for k in range(100)]
    return write(path, dictionary=dictionary, image=data, label=["ant", "bee"] * 50)


@pytest.mark.parametrize("make", [a_table, images])
def test_a_page_that_declares_two_gigabytes_is_refused_unallocated(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = patch(make(tmp_path / "a.parquet"), "label", lambda _, s, v: (2**31 - 100, s, v))
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(DataError, match=r"column label: a page is 2,147,483,548 bytes when unpack"):
        list_source(path)
    assert pa.default_memory_pool().max_memory() < max(before, 1 << 28)


@pytest.mark.parametrize("make", [a_table, images])
def test_a_dictionary_that_declares_a_billion_values_is_refused_unallocated(
    tmp_path: Path, make: Callable[..., Path]
) -> None:
    path = make(tmp_path / "a.parquet", dictionary=True)
    patch(path, "label", lambda u, s, _: (u, s, 2**30))
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(DataError, match=r"dictionary of 14 bytes declares 1,073,741,824 values"):
        list_source(path)
    assert pa.default_memory_pool().max_memory() < max(before, 1 << 28)


def test_as_many_values_as_fit_into_a_dictionary_are_read_and_no_more(tmp_path: Path) -> None:
    columns = {"path": [f"{k}.png" for k in range(8)], "label": ["", "a"] * 4}
    path = write(tmp_path / "a.parquet", dictionary=True, **columns)
    content = pq.ParquetFile(path)
    assert rows_at_once(path, content, 0, ["label"], 256) == 256
    patch(path, "label", lambda u, s, v: (u, s, v + 1))
    with pytest.raises(DataError, match="declares 3 values"):
        rows_at_once(path, content, 0, ["label"], 256)


def test_images_in_a_page_that_declares_too_much_are_named(tmp_path: Path) -> None:
    path = images(tmp_path / "a.parquet")
    patch(path, "image", lambda _, s, v: (2**31 - 100, s, v))
    listing = list_source(path)
    with pytest.raises(GlasshouseError, match=r"row 1.*2,147,483,548 bytes"):
        listing.paths[0].read()  # type: ignore[union-attr]


@pytest.mark.parametrize("stored", [2**30, 10_000])
def test_a_page_cannot_be_longer_than_its_column(tmp_path: Path, stored: int) -> None:
    path = patch(a_table(tmp_path / "a.parquet"), "label", lambda u, _, v: (u, stored, v))
    with pytest.raises(DataError, match=f"column label: .* declares {stored:,} bytes where"):
        list_table(path)


def test_other_columns_are_not_read(tmp_path: Path) -> None:
    path = a_table(tmp_path / "a.parquet")
    patch(path, "label", lambda _, s, v: (2**31 - 100, s, v))
    assert rows_at_once(path, pq.ParquetFile(path), 0, ["path", "lab"], 7) == 7


def test_a_page_that_really_unpacks_to_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 1 << 22
    monkeypatch.setattr(parquet_pages, "_MOST_PAGE_BYTES", size)
    path = write(tmp_path / "a.parquet", image=[b"x", bytes(size)], label=["ant", "bee"])
    assert path.stat().st_size < size // 100
    listing = list_source(path)
    with pytest.raises(GlasshouseError, match=r"a page is 4,194,\d+ bytes when unpacked"):
        listing.paths[0].read()  # type: ignore[union-attr]


def test_a_large_page_that_is_in_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_pages, "_MOST_PAGE_BYTES", 1000)
    noise = np.random.default_rng(0).bytes(5000)
    path = write(tmp_path / "a.parquet", image=[noise])
    assert rows_at_once(path, pq.ParquetFile(path), 0, ["image"], 32) == 32
    path = write(tmp_path / "a.parquet", image=[bytes(5000)])
    with pytest.raises(DataError, match="expected at most 1,000, or 4 times"):
        rows_at_once(path, pq.ParquetFile(path), 0, ["image"], 32)


def test_rows_that_share_a_large_entry_are_unpacked_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, most = 1 << 20, 6 << 20
    monkeypatch.setattr(parquet_pages, "_MOST_PAGE_BYTES", most)
    large = pa.DictionaryArray.from_arrays(np.zeros(64, dtype=np.int32), [b"x" * size])
    path = write(tmp_path / "a.parquet", dictionary=True, image=large, label=["ant", "bee"] * 32)
    assert path.stat().st_size < size // 10
    with pytest.raises(GlasshouseError, match="a page is"):
        monkeypatch.setattr(parquet_pages, "_MOST_PAGE_BYTES", size)
        rows_at_once(path, pq.ParquetFile(path), 0, ["image"], 32)
    monkeypatch.setattr(parquet_pages, "_MOST_PAGE_BYTES", most)
    assert rows_at_once(path, pq.ParquetFile(path), 0, ["image"], 32) == 5
    before, images = pa.total_allocated_bytes(), list_source(path).paths
    for image in images[:14]:
        assert len(image.read()) == size  # type: ignore[union-attr]
        # A block of rows, and what it is assembled in.
        assert pa.total_allocated_bytes() - before < 4 * most


def test_more_rows_than_bytes_are_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet", dictionary=True, image=[b"x"] * 50_000, label=["ant"] * 50_000
    )
    with pytest.raises(DataError, match=r"declares 50,000 rows in [\d,]+ bytes"):
        list_source(path)


def test_texts_of_many_rows_are_kept_once(tmp_path: Path) -> None:
    image = [np.random.default_rng(k).bytes(60) for k in range(200)]
    paths = ["/".join("p" * 5000)] * 200
    path = write(
        tmp_path / "a.parquet", dictionary=True, image=image, label=["x" * 9000] * 200, path=paths
    )
    listing = list_source(path)
    assert listing.class_names == ("x" * 9000,)
    assert len(set(listing.ids.tolist())) == 200
    assert max(len(file.name) for file in listing.paths) < 4200


def test_damaged_headers_are_named_errors(tmp_path: Path) -> None:
    before = pa.default_memory_pool().max_memory()
    for make in (a_table, images):
        data = make(tmp_path / "a.parquet", dictionary=True).read_bytes()
        path = tmp_path / "b.parquet"
        parts = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0)
        part = parts.column(parts.num_columns - 1)
        for seed in range(300):
            chance = random.Random(f"{make.__name__} {seed}")
            damaged = bytearray(data)
            for _ in range(chance.randint(1, 4)):
                place = part.dictionary_page_offset + chance.randrange(30)
                damaged[place] = chance.randrange(256)
            path.write_bytes(damaged)
            try:
                list_source(path)
            except GlasshouseError:
                continue
    assert pa.default_memory_pool().max_memory() < max(before, 1 << 28)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"\x15", "is cut off"),
        (b"\x15" + b"\xff" * 30, "never ends"),
        (b"\x1b", "unknown type 11"),
        (b"\x1c" * 30, "is too large"),
        (b"\x19" + b"\x19" * 30, "is too large"),
        (b"\x18\xff\xff\xff\x7f", "is too large"),
        (b"\x15\x00\x00", "has no size"),
        (b"\x25\x02\x15\x01\x00", "declares -1 bytes"),
        (b"\x25\x01\x15\x02\x00", "bytes where"),
    ],
)
def test_what_is_wrong_with_a_header_is_said(tmp_path: Path, header: bytes, problem: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(header)

    class Part:
        dictionary_page_offset, data_page_offset = None, 0
        total_compressed_size = len(header)

    with path.open("rb") as file, pytest.raises(ValueError, match=problem):
        list(parquet_pages._pages(file, Part))


@pytest.mark.parametrize(
    ("unpacked", "stored", "values", "is_read"),
    [
        (100, 0, None, True), (101, 0, None, False),
        (400, 100, None, True), (401, 100, None, False),
        (80, 9, 0, True), (80, 9, 20, True), (80, 9, 21, False), (80, 9, -1, False),
    ],
)  # fmt: skip
def test_the_borders_of_what_a_page_may_declare(
    monkeypatch: pytest.MonkeyPatch, unpacked: int, stored: int, values: int | None, is_read: bool
) -> None:
    page = parquet_pages._Page(unpacked, stored, values)
    monkeypatch.setattr(parquet_pages, "_MOST_PAGE_BYTES", 100)
    monkeypatch.setattr(parquet_pages, "_pages", lambda *_: iter([page, page]))
    part = SimpleNamespace(physical_type="BYTE_ARRAY")
    if is_read:
        largest = 0 if values is None else unpacked
        assert parquet_pages._largest_dictionary(io.BytesIO(), part) == largest
    else:
        with pytest.raises(ValueError, match=f"{unpacked:,} bytes"):
            parquet_pages._largest_dictionary(io.BytesIO(), part)


@pytest.mark.parametrize(
    ("number", "encoded"),
    [(0, b"\0"), (-1, b"\1"), (1, b"\2"), (-64, b"\x7f"), (64, b"\x80\1"), (-65, b"\x81\1")],
)
def test_numbers_are_read_as_thrift_writes_them(number: int, encoded: bytes) -> None:
    assert parquet_pages._integer(io.BytesIO(encoded)) == number


@pytest.mark.parametrize("kind", [1, 2])
def test_truth_values_in_a_list_take_a_byte_each(kind: int) -> None:
    file = io.BytesIO(bytes([0x20 | kind, 1, 2, 99]))
    parquet_pages._value(file, 9, 4, 0)
    assert file.tell() == 3


def plain_varint(number: int) -> bytes:
    """Seven bits at a time, the lowest first; of all but the last, the highest bit is set."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


class Thrift:
    """Writes random structures in Thrift's compact protocol, and what is to be read of them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def struct(self, depth: int) -> tuple[bytes, dict[int, Any]]:
        written, expected, number = b"", {}, 0
        for _ in range(self.chance.randint(0, 6)):
            step = self.chance.choice([1, 2, 15, 16, 300])
            number += step
            kind = self.chance.choice(
                [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12] if depth else [1, 3, 5, 8]
            )
            data, expected[number] = self.value(kind, depth - 1)
            # A step of up to 15 is in the same byte; after it, the number itself.
            head = (
                bytes([step << 4 | kind]) if step < 16 else bytes([kind]) + plain_varint(2 * number)
            )
            written += head + data
        return written + b"\0", expected

    def value(self, kind: int, depth: int) -> tuple[bytes, Any]:
        if kind in (1, 2):
            return b"", int(kind == 1)
        if kind == 3:
            byte = self.chance.randrange(256)
            return bytes([byte]), byte
        if kind in (4, 5, 6):
            number = self.chance.choice([0, -1, 1, 63, -64, 64, 2**31 - 1, -(2**31), 2**62])
            return plain_varint(2 * number if number >= 0 else -2 * number - 1), number
        if kind in (7, 8):
            data = self.chance.randbytes(
                8 if kind == 7 else self.chance.choice([0, 1, 127, 128, 300])
            )
            return (data if kind == 7 else plain_varint(len(data)) + data), None
        if kind == 12:
            return self.struct(depth)
        count = self.chance.choice([0, 1, 14, 15, 16, 200])
        of = self.chance.choice([1, 2, 3, 5, 8])
        # In a list, truth values take a byte each.
        items = [b"\1" if of < 3 else self.value(of, 0)[0] for _ in range(count)]
        head = bytes([count << 4 | of]) if count < 15 else bytes([0xF0 | of]) + plain_varint(count)
        return head + b"".join(items), None


@pytest.mark.parametrize("seed", range(60))
def test_headers_are_read_as_they_were_written(seed: int) -> None:
    written, expected = Thrift(seed).struct(3)
    file = io.BytesIO(written + b"what follows")
    assert parquet_pages._struct(file, len(written)) == expected
    assert file.read() == b"what follows"
