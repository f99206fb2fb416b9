"""Where embedded images are read from, in which order, and which of them are a sample."""

import os
from pathlib import Path

import pytest

from glasshouse.data.decode import MAX_FILE_BYTES
from glasshouse.data.embedded import (
    ParquetCell,
    TarMember,
    container_stamp,
    reading_order,
    sampled,
)
from glasshouse.errors import BadImage, DataError


def cell(container: str, group: int, row: int) -> ParquetCell:
    return ParquetCell(Path(container), f"{group}-{row}", group, row, "image.bytes")


def test_a_tar_member_is_the_bytes_at_its_offset(tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(b"0123456789")
    member = TarMember(tar, "x.png", 3, 4)
    assert member.read() == b"3456"
    assert member.open().read() == b"3456"
    assert member.place == (3,)
    assert str(member) == f"{tar}/x.png"


def test_a_tar_member_may_be_of_the_most_bytes_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = tmp_path / "a.tar"
    with pytest.raises(BadImage, match="larger than 512 MiB"):
        TarMember(tar, "x.png", 0, MAX_FILE_BYTES + 1).read()
    with pytest.raises(BadImage, match="cannot be read: No such file"):
        TarMember(tar, "x.png", 0, 4).read()
    tar.write_bytes(b"0123456789")
    monkeypatch.setattr("glasshouse.data.embedded.MAX_FILE_BYTES", 4)
    assert TarMember(tar, "x.png", 0, 4).read() == b"0123"


def test_an_image_is_read_of_the_container_that_was_listed(tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(b"0123456789")
    stamp = container_stamp(tar.stat())
    member = TarMember(tar, "x.png", 3, 4, stamp=stamp)
    assert member.read() == b"3456" and member.stat() == tar.stat()
    assert member == TarMember(tar, "x.png", 3, 4), "a stamp is no part of what it is"
    os.utime(tar, ns=(stamp[1], stamp[1] + 1))
    for look in (member.read, member.open, member.stat):
        with pytest.raises(
            DataError, match=r"a\.tar changed while it was read: repeat the command"
        ):
            look()
    assert TarMember(tar, "x.png", 3, 4).read() == b"3456"


def test_cells_are_read_by_container_group_and_row_and_plain_files_as_listed() -> None:
    cells = [cell("b", 0, 0), cell("a", 1, 0), cell("a", 0, 2), cell("a", 0, 1)]
    assert reading_order(cells) == [3, 2, 1, 0]
    assert reading_order([Path("b"), Path("a")]) == [0, 1]


def test_a_sample_of_files_is_spread_evenly() -> None:
    files = [Path(str(number)) for number in range(10)]
    assert sampled(files, 3) == files[::3]
    assert sampled(files, 20) == files


def test_a_sample_of_cells_is_the_start_of_groups_spread_evenly() -> None:
    cells = [cell("a", group, row) for row in range(3) for group in range(40)]
    assert sampled(cells, 40) == [cell("a", g, row) for g in range(0, 40, 2) for row in range(2)]
    assert sampled(cells[:3], 1) == cells[:3]
