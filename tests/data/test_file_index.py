"""Which files need not be opened again."""

import os
from pathlib import Path
from typing import Any

import pytest

from glasshouse.data.file_index import KnownFile, file_stamp, read_index, readable, unchanged
from glasshouse.storage import write_json


def known(path: Path, sha256: str = "a" * 64, reason: str = "") -> KnownFile:
    size, changed, stamped, inode = file_stamp(path)
    return KnownFile(size, changed, stamped, inode, sha256, reason, 3, 4, ("odd",), "values 0 to 9")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(b"x")
    return tmp_path / "a.png"


def test_an_unchanged_file_is_known(path: Path) -> None:
    index = {str(path): known(path)}
    assert unchanged([path, path.with_name("b.png")], index) == index


def test_a_file_whose_decoder_crashed_is_tried_again_and_a_bad_one_is_not(path: Path) -> None:
    crashed = known(path, sha256="", reason="the decoder crashed or took longer than 60 s")
    assert unchanged([path], {str(path): crashed}) == {}
    bad = known(path, reason="truncated")
    assert unchanged([path], {str(path): bad}) == {str(path): bad}


@pytest.mark.parametrize("place", range(4))
def test_a_difference_in_any_part_of_the_stamp_is_a_change(path: Path, place: int) -> None:
    values: list[Any] = list(known(path))
    values[place] += 1
    other = KnownFile(*values)
    assert unchanged([path], {str(path): other}) == {}


def test_a_file_that_is_gone_is_not_known(path: Path) -> None:
    index = {str(path): known(path)}
    path.unlink()
    assert file_stamp(path) == (-1, -1, -1, -1)
    assert unchanged([path], index) == {}


def test_an_index_survives_the_disk_and_one_of_an_older_form_is_empty(path: Path) -> None:
    index = {str(path): known(path)}
    stored = path.with_name("index.json")
    write_json(stored, index)
    assert read_index(stored) == index
    write_json(stored, {str(path): list(index[str(path)])[1:]})
    assert read_index(stored) == {}
    os.truncate(stored, 5)
    assert read_index(stored) == {}


def test_only_files_without_a_reason_are_readable(path: Path) -> None:
    other = path.with_name("b.png")
    index = {str(path): known(path, reason="truncated"), str(other): known(path)}
    assert readable([path, other, other], index) == [1, 2]
