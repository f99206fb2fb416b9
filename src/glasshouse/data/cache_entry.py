"""One entry of the image cache: its record, survey and pixels, and how they are verified."""

import contextlib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from glasshouse.data.fitting import Fitting
from glasshouse.data.pixel_blocks import BLOCK_BYTES, Images, images_per_block
from glasshouse.data.survey import Survey, survey_blocks, survey_from_bytes, survey_to_bytes
from glasshouse.errors import StorageError
from glasshouse.storage import read_json, sha256_of_bytes, write_bytes, write_json


class EntryRecord(NamedTuple):
    """What the record of an entry says: the digests of the files, and how to verify the rest.

    source: the folder of the files that it was made from, for people only.
    """

    digests: list[str]
    crc32: int
    survey_sha256: str
    source: str


def read_record(path: Path, row_bytes: int) -> EntryRecord | None:
    """The record of an entry whose pixels have the right size, which are not read."""
    try:
        values = read_json(path)
        digests = [str(digest) for digest in values["digests"]]
        if path.with_suffix(".pixels").stat().st_size != len(digests) * row_bytes:
            return None
        return EntryRecord(
            digests=digests,
            crc32=int(values["crc32"]),
            survey_sha256=str(values.get("survey_sha256", "")),
            source=str(values.get("source", "")),
        )
    except (StorageError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return None


def verified_survey(record: Path, entry: EntryRecord, fitting: Fitting) -> Survey | None:
    """The survey of an entry after one pass over its pixels; None when they are damaged.

    The pass verifies the pixels, and surveys them again where the survey itself is damaged.
    """
    kept = _read_survey(record.with_suffix(".survey"), entry)
    try:
        with record.with_suffix(".pixels").open("rb") as file:
            if kept is not None:
                return kept if checksum_of(file_blocks(file)) == entry.crc32 else None
            shape = (3, fitting.height, fitting.width)
            block_bytes = images_per_block(shape) * 3 * fitting.height * fitting.width
            found, checksum = survey_of_blocks(file_blocks(file, block_bytes), fitting)
    except OSError:
        return None
    if checksum != entry.crc32:
        return None
    # A cache that cannot be written to can still be read.
    with contextlib.suppress(StorageError):
        write_record(record, entry, found)
    return found


def _read_survey(path: Path, entry: EntryRecord) -> Survey | None:
    try:
        data = path.read_bytes()
        return survey_from_bytes(data) if sha256_of_bytes(data) == entry.survey_sha256 else None
    except (OSError, StorageError):
        return None


def survey_of_blocks(blocks: Iterable[bytes], fitting: Fitting) -> tuple[Survey, int]:
    """Survey the pixels of some images and compute their checksum, in the same pass.

    blocks: of `images_per_block` images each, the last one of fewer.
    """
    checksum = 0

    def images() -> Iterator[Images]:
        nonlocal checksum
        for block in blocks:
            checksum = zlib.crc32(block, checksum)
            yield np.frombuffer(block, np.uint8).reshape(-1, 3, fitting.height, fitting.width)

    found = survey_blocks(images(), fitting.height * fitting.width)
    return found, checksum


def checksum_of(parts: Iterator[bytes]) -> int:
    """CRC-32 of a file: detects decay, not malice, and is fast enough for each start."""
    checksum = 0
    for block in parts:
        checksum = zlib.crc32(block, checksum)
    return checksum


def file_blocks(file: Any, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """A whole file, some bytes at a time."""
    file.seek(0)
    while block := file.read(block_bytes):
        yield block


def write_record(record: Path, entry: EntryRecord, found: Survey) -> None:
    """Write the survey of an entry and its record, which makes it complete."""
    data = survey_to_bytes(found)
    write_bytes(record.with_suffix(".survey"), data)
    # Last: an entry counts as complete once its record is there.
    write_json(record, entry._replace(survey_sha256=sha256_of_bytes(data))._asdict())
